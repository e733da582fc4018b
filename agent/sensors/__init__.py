"""The sensors: what a machine tells of itself, null wherever it does not know.

`Sensors` takes samples, `read_hardware` tells what the machine is. Everything that describes the
machine is read below a root folder, which is `/` on a device. Each kind of machine is a provider
behind one interface (`provider.py`); docs/sensors.md says what each gives.
"""

from agent.sensors.hardware import Hardware, read_hardware
from agent.sensors.machine import Sensors

__all__ = ["Hardware", "Sensors", "read_hardware"]
