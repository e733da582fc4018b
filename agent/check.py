"""`sluice-agent check`: would it run here, and if not, why not."""

import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from agent.config import Config
from agent.errors import StartError
from agent.processes.sockets import listen
from agent.reporting.inventory import runtime_name
from agent.sensors import read_hardware
from agent.sensors.added import try_out
from agent.storage.files import claim
from agent.trust import read_key_sets
from protocols.link import Broker, Link

_CONNECT_WITHIN_S = 5.0
_PROVIDER_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    good: bool
    text: str


def check(read: Callable[[], Config]) -> Iterator[Finding]:
    """Look at everything that `run` needs.

    Args:
        read: reads the configuration; may raise StartError.
    """
    try:
        config = read()
    except StartError as error:
        yield Finding(good=False, text=str(error))
        return
    yield Finding(good=True, text=f"configuration of {config.id} in fleet {config.fleet}")
    yield from _check_trust(config)
    yield _check_places(config)
    yield _check_runtime()
    yield _check_machine(config)
    yield from map(_check_provider, config.sensors.providers)
    yield from _check_secrets(config)
    yield from _check_broker(config)


def _check_secrets(config: Config) -> Iterator[Finding]:
    """Whether others can read what we log in with."""
    section = config.broker
    for path in (section.key_file, section.password_file, config.enrolment):
        if path is not None and path.exists() and (mode := path.stat().st_mode & 0o777) & 0o007:
            text = f"{path} has mode {mode:04o}: others can be this device; chmod 600 {path}"
            yield Finding(good=False, text=text)


def _check_trust(config: Config) -> Iterator[Finding]:
    try:
        keys = config.key_set()
    except StartError as error:
        yield Finding(good=False, text=str(error))
        return
    yield Finding(good=True, text=f"{len(keys.keys)} trusted keys in {config.trust_file()}")
    followed, damage = read_key_sets(config.state_dir / "keys.json", keys)
    if damage:
        yield Finding(good=False, text=damage)
    elif followed.keys != keys:
        yield Finding(
            good=True, text=f"the fleet's keys since then: version {followed.keys.version}"
        )
    try:
        import cryptography  # noqa: PLC0415 - the agent itself leaves it to a child process
    except ImportError:
        text = "cannot check signatures: pip install cryptography"
        yield Finding(good=False, text=text)
    else:
        yield Finding(good=True, text=f"cryptography {cryptography.__version__}")


def _check_places(config: Config) -> Finding:
    """Take the state folder and the sockets as `run` does, and let them go again."""
    try:
        with claim(config.state_dir):
            listeners = listen(config)
    except StartError as error:
        return Finding(good=False, text=str(error))
    for listener in listeners:
        listener.close()
    return Finding(good=True, text=f"state in {config.state_dir}, its sockets are free")


def _check_runtime() -> Finding:
    name = runtime_name()
    if name is None:
        text = (
            "cannot run models: no interpreter is installed; pip install ai-edge-litert "
            "(64-bit), or tflite-runtime 'numpy<2' (32-bit)"
        )
        return Finding(good=False, text=text)
    return Finding(good=True, text=name)


def _check_machine(config: Config) -> Finding:
    hardware = read_hardware(config.sensors.sysroot)
    memory = "unknown memory" if hardware.memory_mib is None else f"{hardware.memory_mib:.0f} MiB"
    text = f"{hardware.machine}, {len(hardware.cpus)} CPUs, {memory}"
    return Finding(good=bool(hardware.cpus), text=text)


def _check_provider(name: str) -> Finding:
    """Load a provider that the user has added, and read it once."""
    outcome = try_out(name, _PROVIDER_WITHIN_S)
    if isinstance(outcome, str):
        return Finding(good=False, text=f"cannot read provider {name}: {outcome}")
    known = {key: value for key, value in asdict(outcome).items() if value is not None}
    said = ", ".join(f"{key} {value}" for key, value in known.items())
    return Finding(good=True, text=f"provider {name}: {said or 'it knows nothing now'}")


def _check_broker(config: Config) -> Iterator[Finding]:
    try:
        broker = config.session()
    except StartError as error:
        yield Finding(good=False, text=str(error))
        return
    problem = _connect(broker, f"sluice-{config.fleet}-{config.id}-check")
    if problem:
        yield Finding(good=False, text=f"cannot reach broker {broker.url}: {problem}")
    else:
        yield Finding(good=True, text=f"broker {broker.url} accepts us")


def _connect(broker: Broker, client_id: str) -> str:
    """Connect once; return what was wrong, empty if nothing."""
    done = threading.Event()
    problems: list[str] = []

    def failed(reason: str) -> None:
        problems.append(reason)
        done.set()

    try:
        socket.create_connection((broker.host, broker.port), _CONNECT_WITHIN_S).close()
        link = Link(
            broker,
            client_id,
            lambda *_: None,
            on_connected=done.set,
            on_disconnected=failed,
        )
        link.start()
    except OSError as error:
        return str(error)
    try:
        if not done.wait(_CONNECT_WITHIN_S):
            return f"it accepts connections and says nothing for {_CONNECT_WITHIN_S:g} s"
        return problems[0] if problems else ""
    finally:
        link.stop()
