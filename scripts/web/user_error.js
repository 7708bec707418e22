/** Something that the visitor can mend; its message is shown as it stands. Every other error is a defect. */
export class UserError extends Error {}
