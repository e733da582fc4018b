"""What a device is: facts that hardly ever change while the agent runs."""

import importlib.metadata

from agent.config import Config
from agent.enrolment import read_enrolment
from agent.sensors import Hardware
from protocols.device import Inventory

_RUNTIMES = ("ai-edge-litert", "tflite-runtime")


def agent_version() -> str:
    """Return the version of what is installed."""
    return importlib.metadata.version("sluice")


def runtime_name() -> str | None:
    """Return interpreter and version as installed, the best one first; None: there is none."""
    for name in _RUNTIMES:
        try:
            return f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def take_inventory(config: Config, hardware: Hardware, endpoints: tuple[str, ...]) -> Inventory:
    """Return the device's inventory.

    Args:
        config: its name and labels.
        hardware: what the sensors found.
        endpoints: URLs of the inference endpoint on the device.
    """
    return Inventory(
        device=config.id,
        labels=config.labels,
        agent_version=agent_version(),
        runtime=runtime_name(),
        machine=hardware.machine,
        model=hardware.model,
        kernel=hardware.kernel,
        pointer_bits=hardware.pointer_bits,
        cores=hardware.cores,
        cores_source=hardware.cores_source,
        memory_mib=hardware.memory_mib,
        memory_limit_mib=hardware.memory_limit_mib,
        swap_mib=hardware.swap_mib,
        has_battery=hardware.has_battery,
        endpoints=endpoints,
        enrolment=read_enrolment(config),
    )
