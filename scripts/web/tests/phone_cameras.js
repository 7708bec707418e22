/** For tests/serving/test_web_page.py: cameras that face the way they are asked to, `wanted` by turn. */

window.wanted = [];
const given = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
navigator.mediaDevices.getUserMedia = async (asked) => {
  const { facingMode } = asked.video;
  window.wanted.push(facingMode);
  const stream = await given(asked);
  for (const track of stream.getVideoTracks()) {
    const settings = track.getSettings.bind(track);
    track.getSettings = () => ({ ...settings(), facingMode });
  }
  return stream;
};
