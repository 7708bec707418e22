"""Whether a machine has an accelerator, as far as that can be told in no time: importing torch takes seconds."""

import sys
from pathlib import Path

# What drivers of NVIDIA (also on Jetson and in WSL), AMD, Intel, Habana, Google, Huawei, Cambricon and Moore Threads
# put into /dev; more than needed, since an accelerator that is there must never be denied.
DEVICES = (
    *("nvidia*", "nvhost*", "nvgpu*", "nvmap", "dxg", "kfd", "dri", "accel*", "vfio", "hl*", "davinci*"),
    *("cambricon*", "mtgpu*"),
)


def surely_none(devices: Path = Path("/dev"), system: str = sys.platform) -> bool:
    """Whether there can be no accelerator: no driver has put a device there. On others than Linux, never."""
    return system == "linux" and not any(any(devices.glob(pattern)) for pattern in DEVICES)
