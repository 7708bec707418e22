"""What `lclipseg COMMAND` runs: one file a command. Commands import the rooms and are imported by nothing."""
