"""The sensors: what a machine tells of itself, null wherever it does not know.

`Sensors` takes samples, `read_hardware` tells what the machine is. Everything that describes the
machine is read below a root folder, which is `/` on a device.
"""

from agent.sensors.hardware import Hardware, read_hardware
from agent.sensors.linux import Sensors

__all__ = ["Hardware", "Sensors", "read_hardware"]
