"""docs/examples/ros2_segment_node.py, with stand-ins for ROS 2."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from written_export import write_export

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "ros2_segment_node.py"
NOW = 100.0  # seconds


class StandInTime:
    def __init__(self, seconds):
        self.nanoseconds = round(seconds * 1e9)

    def __sub__(self, other):
        return StandInTime((self.nanoseconds - other.nanoseconds) / 1e9)

    @classmethod
    def from_msg(cls, stamp):
        return cls(stamp)


class StandInNode:
    """Keeps what is published and logged."""

    parameters: dict = {}

    def __init__(self, name):
        self.published, self.logged, self.queues = [], [], []

    def declare_parameter(self, name, default):
        return SimpleNamespace(value=self.parameters.get(name, default))

    def create_publisher(self, kind, topic, queue):
        return SimpleNamespace(publish=self.published.append)

    def create_subscription(self, kind, topic, callback, queue):
        self.queues.append(queue)

    def get_clock(self):
        return SimpleNamespace(now=lambda: StandInTime(NOW))

    def get_logger(self):
        def note(text, once=False):
            self.logged.append(text)

        return SimpleNamespace(info=note, debug=note, error=note)


@pytest.fixture
def node(monkeypatch, tmp_path):
    """The node, with an export that tells red, green and blue."""
    names = ("rclpy", "rclpy.executors", "rclpy.node", "rclpy.qos", "rclpy.time", "sensor_msgs", "sensor_msgs.msg")
    modules = {name: ModuleType(name) for name in names}
    modules["rclpy.executors"].ExternalShutdownException = KeyboardInterrupt
    modules["rclpy.node"].Node = StandInNode
    modules["rclpy.time"].Time = StandInTime
    modules["rclpy.qos"].QoSProfile = lambda **settings: settings
    modules["rclpy.qos"].HistoryPolicy = SimpleNamespace(KEEP_LAST="keep last")
    modules["rclpy.qos"].ReliabilityPolicy = SimpleNamespace(BEST_EFFORT="best effort")
    modules["sensor_msgs.msg"].Image = SimpleNamespace
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    spec = importlib.util.spec_from_file_location("ros2_segment_node", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    model = write_export(tmp_path / "exported", "baked", label_map=True) / "model.onnx"
    monkeypatch.setattr(StandInNode, "parameters", {"model": str(model)})
    return example.SegmentNode()


def message(encoding="rgb8", age=0.0, padding=2):
    """Red on the left, green on the right: 7 wide, 4 high, with bytes after every row."""
    colours = {"rgb8": ([9, 0, 0], [0, 9, 0]), "bgra8": ([0, 0, 9, 255], [0, 9, 0, 255]), "mono8": ([9], [9])}
    left, right = colours.get(encoding, ([9, 0], [0, 9]))
    rows = np.zeros((4, 7 * len(left) + padding), dtype=np.uint8)
    rows[:, : 7 * len(left)] = left * 3 + right * 4
    header = SimpleNamespace(stamp=NOW - age, frame_id="camera")
    return SimpleNamespace(
        header=header, height=4, width=7, encoding=encoding, step=rows.shape[1], data=rows.tobytes()
    )


@pytest.mark.parametrize(("encoding", "ids"), [("rgb8", [0, 1]), ("bgra8", [0, 1]), ("mono8", [0, 0])])
def test_mask_has_the_size_and_header_of_its_image(node, encoding, ids):
    image = message(encoding)
    node.segment(image)
    (mask,) = node.published
    assert mask.header is image.header
    assert (mask.height, mask.width, mask.step, mask.encoding, mask.is_bigendian) == (4, 7, 7, "mono8", 0)
    assert np.frombuffer(mask.data, dtype=np.uint8).reshape(4, 7).tolist() == [[ids[0]] * 3 + [ids[1]] * 4] * 4


def test_stale_image_is_passed_over_and_the_queue_holds_the_newest_alone(node):
    node.segment(message(age=0.6))
    assert node.published == []
    node.segment(message(age=0.4))
    assert len(node.published) == 1
    assert [(queue["history"], queue["depth"]) for queue in node.queues] == [("keep last", 1)]


def test_encoding_that_is_not_read_is_told(node):
    node.segment(message("16UC1"))
    assert node.published == [] and "16UC1 are not read; allowed are rgb8, " in node.logged[-1]


def test_graph_of_another_kind_is_told_how_to_be_exported(node, tmp_path):
    StandInNode.parameters["model"] = str(write_export(tmp_path / "logits") / "model.onnx")
    with pytest.raises(ValueError, match="export the model with --label_map --vocabulary baked"):
        type(node)()
