#!/usr/bin/env python3
"""A ROS 2 node that segments a camera's images, by onnxruntime and NumPy alone: copy this file into your package.

    lclipseg export CHECKPOINT --label_map --vocabulary baked --int8 --calibration IMAGES --out exported
    python3 ros2_segment_node.py --ros-args -p model:=exported/model.onnx -r image:=/camera/image_raw

It subscribes to `image` (sensor_msgs/Image; rgb8, bgr8, rgba8, bgra8 or mono8) and publishes on `mask` the class of
every pixel: mono8, of the image's size and with its header, so that stamps can synchronise both. The names of the
classes are logged at the start. An image older than `max_age` seconds is passed over, as are those that came while one
was in work: the queue holds the newest alone.

Parameters: `model` (the graph), `max_age` (seconds, 0.5), `threads` (of the CPU, 2).
"""

import array
import json

import numpy as np
import onnxruntime
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.time import Time
from sensor_msgs.msg import Image

CHANNELS = {"rgb8": (0, 1, 2), "bgr8": (2, 1, 0), "rgba8": (0, 1, 2), "bgra8": (2, 1, 0), "mono8": (0, 0, 0)}
WIDTHS = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}  # bytes a pixel
NEWEST = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


class SegmentNode(Node):
    """Subscribes to `image`, publishes on `mask`."""

    def __init__(self) -> None:
        super().__init__("lclipseg")
        model = self.declare_parameter("model", "exported/model.onnx").value
        self.max_age = self.declare_parameter("max_age", 0.5).value
        self.session = open_graph(model, self.declare_parameter("threads", 2).value)
        self.masks = self.create_publisher(Image, "mask", 1)  # reliable, as any subscriber can take
        self.create_subscription(Image, "image", self.segment, NEWEST)
        classes = json.loads(self.session.get_modelmeta().custom_metadata_map["classes"])
        self.get_logger().info(f"{model}: {', '.join(f'{index} {name}' for index, name in enumerate(classes))}")

    def segment(self, message: Image) -> None:
        """Publish the mask of an image, unless it is stale or of another encoding."""
        age = (self.get_clock().now() - Time.from_msg(message.header.stamp)).nanoseconds / 1e9
        if age > self.max_age:
            self.get_logger().debug(f"passed over an image of {age:.2f} s ago")
            return
        if message.encoding not in CHANNELS:
            self.get_logger().error(
                f"images of encoding {message.encoding} are not read; allowed are {', '.join(CHANNELS)}", once=True
            )
            return
        (mask,) = self.session.run(["segmentation"], {"image": to_rgb(message)})
        self.masks.publish(to_message(mask, message.header))


def open_graph(path: str, threads: int) -> onnxruntime.InferenceSession:
    """The graph of a label map; a ValueError where it is another kind, or has more classes than mono8 has values."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # leave the cores to the other nodes
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    if [value.name for value in session.get_inputs()] != ["image"]:
        raise ValueError(f"{path} takes more than an image; export the model with --label_map --vocabulary baked")
    if len(json.loads(session.get_modelmeta().custom_metadata_map["classes"])) > 256:
        raise ValueError(f"{path} has more than 256 classes, which mono8 cannot hold; publish 16UC1 instead")
    return session


def to_rgb(message: Image) -> np.ndarray:
    """An image message as RGB, (height, width, 3) uint8; its rows may be longer than its pixels."""
    rows = np.frombuffer(message.data, dtype=np.uint8).reshape(message.height, message.step)
    width = WIDTHS[message.encoding]
    pixels = rows[:, : message.width * width].reshape(message.height, message.width, width)
    return np.ascontiguousarray(pixels[:, :, CHANNELS[message.encoding]])


def to_message(mask: np.ndarray, header: object) -> Image:
    """A label map (height, width) as an image message of mono8, with the header of its image."""
    message = Image()
    message.header = header
    message.height, message.width = mask.shape
    message.encoding, message.is_bigendian, message.step = "mono8", 0, mask.shape[1]
    message.data = array.array("B", mask.astype(np.uint8).tobytes())  # rclpy checks lists byte by byte, arrays not
    return message


def main() -> None:
    rclpy.init()
    node = SegmentNode()
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
