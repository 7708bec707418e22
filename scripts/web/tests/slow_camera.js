/** For tests/serving/test_web_page.py: the camera of turn N is allowed by `allow[N]()`; `streams` are the opened ones. */

window.streams = [];
window.allow = [];
window.running = () => streams.map((stream) => stream.getTracks().some(({ readyState }) => readyState === "live"));
const { mediaDevices } = navigator;
const given = mediaDevices.getUserMedia.bind(mediaDevices);
mediaDevices.getUserMedia = async (wanted) => {
  await new Promise((resolve) => window.allow.push(resolve));
  window.streams.push(await given(wanted));
  return window.streams.at(-1);
};
