"""What the simulated devices are made of, and the two cascades that they serve.

Figures with a source say so; all others are assumptions that were chosen to be plausible, and a
figure that comes out of a simulation is no measurement of any board.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from protocols.bundle import Bundle, CertifiedThreshold
from protocols.device import CoreClass, Inventory
from protocols.profile import LayoutRun, ProfileKey, StageProfile
from tests.controller.cascades import Piece, make_bundle

RUNTIME, KERNEL = "ai-edge-litert 2.3.0", "6.6.31"
SPREAD_P95 = 1.15
"""p95 of an undisturbed answer, relative to its median."""


@dataclass(frozen=True, slots=True)
class Model:
    """A variant of a stage.

    Attributes:
        mib: what loading adds: about twice the file, as measured with packed weights.
        core_s: CPU seconds of an answer with one thread, on a core of speed 1.
        load_s: CPU seconds from the file to the end of the first answer, on a core of speed 1.
        gain: an answer with n threads takes n ** -gain of the time.
    """

    mib: float
    core_s: float
    load_s: float
    gain: float

    @property
    def declared_mib(self) -> float:
        """What its file says: the size that a cache by declared size goes by."""
        return self.mib / 2

    def answer_s(self, threads: int, speed: float) -> float:
        """Return the seconds of an answer on cores that are all ours."""
        return self.core_s / speed / math.pow(threads, self.gain)


@dataclass(frozen=True, slots=True)
class Work:
    """A cascade: its manifest, and what its models cost.

    The escalated shares rise with safety. `gap` is the accuracy of the last stage less that of the
    first one, of all samples.
    """

    bundle: Bundle
    models: dict[tuple[str, str], Model]
    accuracy: float
    gap: float


ACCURACY, GAP = 0.874, 0.043
"""A trial on 32x32 natural images: 10.24M parameters 87.4 %, 94k parameters 83.1 % top-1."""

LADDER = ((0.005, 0.41), (0.01, 0.36), (0.02, 0.29), (0.05, 0.18))
"""(eps, escalated). The first step is of the same trial; how the others fall is an assumption."""


def _work(name: str, small: Model, large: Model, narrow: Model) -> Work:
    bundle = make_bundle(
        (
            Piece("small", [("int8", small.mib)], gated=True, answer_ms=1e3 * small.core_s),
            Piece(
                "large",
                [("fp32", large.mib), ("int8", narrow.mib)],
                answer_ms=1e3 * large.core_s,
            ),
        ),
        name=name,
    )
    gates = tuple(
        CertifiedThreshold(eps=eps, delta=0.05, threshold=0.9 - eps, n=5000, harms=1, escalated=on)
        for eps, on in LADDER
    )
    certificates = tuple(c.with_(gates={"small": gates}) for c in bundle.certificates)
    models = {("small", "int8"): small, ("large", "fp32"): large, ("large", "int8"): narrow}
    return Work(bundle.with_(certificates=certificates), models, ACCURACY, GAP)


OBJECTS = _work(
    "objects",
    Model(mib=14, core_s=0.012, load_s=0.03, gain=0.6),
    Model(mib=190, core_s=0.240, load_s=0.40, gain=0.85),
    Model(mib=50, core_s=0.110, load_s=0.12, gain=0.8),
)
WORDS = _work(
    "words",
    Model(mib=5, core_s=0.004, load_s=0.02, gain=0.3),
    Model(mib=90, core_s=0.090, load_s=0.20, gain=0.8),
    Model(mib=25, core_s=0.040, load_s=0.07, gain=0.7),
)
WORKS = (OBJECTS, WORDS)


@dataclass(frozen=True, slots=True)
class Habit:
    """Something else that the device does now and then; all ranges are uniform.

    `cores` and `memory` are shares of all the device's cores and of its memory.
    """

    per_day: float
    hours: tuple[float, float]
    minutes: tuple[float, float]
    cores: tuple[float, float]
    memory: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Battery:
    """A battery that is charged in the given hours, which may span midnight.

    `kelvin_per_w`: how much warmer than its surroundings it gets per watt of the device.
    """

    wh: float
    charge_w: float
    plugged: tuple[float, float]
    kelvin_per_w: float


@dataclass(frozen=True, slots=True)
class Picture:
    """A device.

    Attributes:
        cores: fastest first.
        speeds: of one core of each class; 1 is a Cortex-A76 at 2.4 GHz.
        core_w: power of one busy core of each class, above idle.
        memory_mib: as the kernel counts it.
        system_mib: what the system itself keeps.
        idle_w: power with nothing to do.
        kelvin_per_w: of the hottest zone, above the surroundings, in balance.
        warm_up_s: time constant of heat.
        slow_at_c: from here on its clock falls.
        has_bits: its firmware says when it throttles.
        habits: what else it does.
        battery: None: it has none.
    """

    name: str
    cores: tuple[CoreClass, ...]
    speeds: tuple[float, ...]
    core_w: tuple[float, ...]
    memory_mib: float
    system_mib: float
    idle_w: float
    kelvin_per_w: float
    warm_up_s: float
    slow_at_c: float
    has_bits: bool
    habits: tuple[Habit, ...]
    battery: Battery | None = None
    ambient_c: float = 24.0

    @property
    def cpus(self) -> tuple[int, ...]:
        """All its CPUs."""
        return tuple(sorted(cpu for group in self.cores for cpu in group.cpus))

    def speed_of(self, cpus: Sequence[int] | None, threads: int) -> float:
        """Return the speed of the slowest core of a pool: it waits for its last thread."""
        pairs = [(c, s) for g, s in zip(self.cores, self.speeds, strict=True) for c in g.cpus]
        mine = [s for c, s in pairs if cpus is None or c in cpus]
        return mine[min(threads, len(mine)) - 1]

    def inventory(self) -> Inventory:
        """Return the device as it describes itself, with all models measured by its tuner."""
        return Inventory(
            device=self.name,
            agent_version="0.1.0",
            runtime=RUNTIME,
            kernel=KERNEL,
            machine="aarch64",
            cores=self.cores,
            memory_mib=self.memory_mib,
            has_battery=self.battery is not None,
            profiles=tuple(self._profile(*found) for found in _variants()),
        )

    def _profile(self, sha256: str, model: Model) -> StageProfile:
        key = ProfileKey(artifact=sha256, runtime=RUNTIME, kernel=KERNEL, cpus=self.cpus)
        sets: list[tuple[int, ...] | None] = (
            [None] if len(self.cores) == 1 else [group.cpus for group in self.cores]
        )
        runs = [self._run(model, n, cpus) for cpus in sets for n in _counts(cpus or self.cpus)]
        return StageProfile(key=key, measured_ts=0.0, runs=tuple(runs))

    def _run(self, model: Model, threads: int, cpus: tuple[int, ...] | None) -> LayoutRun:
        answer_s = model.answer_s(threads, self.speed_of(cpus, threads))
        return LayoutRun(
            threads=threads,
            cpus=None if cpus is None else cpus[:threads],
            count=50,
            p50_ms=1e3 * answer_s,
            p95_ms=1e3 * answer_s * SPREAD_P95,
            answers_per_s=1 / answer_s,
            cpu_ms=1e3 * answer_s * threads,
            load_ms=1e3 * model.load_s / self.speed_of(cpus, 1),
            peak_rss_mib=model.mib,
        )


def _variants() -> list[tuple[str, Model]]:
    return [
        (variant.artifact.sha256, work.models[stage.name, variant.name])
        for work in WORKS
        for stage in work.bundle.stages
        for variant in stage.variants
    ]


def _counts(cpus: Sequence[int]) -> list[int]:
    return [n for n in (1, 2, 4) if n <= len(cpus)]


FOUR = (CoreClass(cpus=(0, 1, 2, 3), capacity=1024),)
FOUR_AND_FOUR = (
    CoreClass(cpus=(4, 5, 6, 7), capacity=1024),
    CoreClass(cpus=(0, 1, 2, 3), capacity=420),
)

PI_4 = Picture(
    # Four Cortex-A72 at 1.8 GHz. 575 mA idle and 1280 mA with all cores busy, at 5 V, are what
    # linuxhint.com/power-consumption-raspberry-pi lists; the firmware slows down from 80 C on
    # (Raspberry Pi documentation). Half the speed of an A76: assumed. 2 GB, bare in a case.
    name="pi4",
    cores=FOUR,
    speeds=(0.5,),
    core_w=(0.88,),
    memory_mib=1850,
    system_mib=260,
    idle_w=2.9,
    kelvin_per_w=9.0,
    warm_up_s=240,
    slow_at_c=80,
    has_bits=True,
    habits=(
        Habit(2, (1, 5), (15, 40), (0.2, 0.4), (0.10, 0.25)),  # backups
        Habit(9, (8, 22), (5, 40), (0.25, 0.7), (0.20, 0.45)),  # a browser, a recording
        Habit(5, (9, 23), (2, 12), (0.6, 1.1), (0.25, 0.5)),  # builds
    ),
)
PI_5 = Picture(
    # Four Cortex-A76 at 2.4 GHz, 4 GB, without a cooler: about 50 C when idle, slower from 80 C on
    # (as widely reported). Watts assumed.
    name="pi5",
    cores=FOUR,
    speeds=(1.0,),
    core_w=(1.4,),
    memory_mib=3980,
    system_mib=420,
    idle_w=3.2,
    kelvin_per_w=7.5,
    warm_up_s=200,
    slow_at_c=80,
    has_bits=True,
    habits=(
        Habit(6, (7, 23), (10, 60), (0.2, 0.5), (0.25, 0.55)),  # a desktop, a recording
        Habit(5, (8, 23), (2, 15), (0.6, 1.1), (0.20, 0.45)),  # builds
        Habit(2, (0, 24), (20, 60), (0.3, 0.5), (0.10, 0.3)),  # backups
    ),
)
BIG_LITTLE = Picture(
    # Four Cortex-A76 and four Cortex-A55, as an RK3588 has them, with a passive heat sink. A
    # capacity of about 0.42 for the small cores, watts and heat: assumed. 4 GB.
    name="biglittle",
    cores=FOUR_AND_FOUR,
    speeds=(0.95, 0.4),
    core_w=(1.3, 0.3),
    memory_mib=3900,
    system_mib=450,
    idle_w=2.4,
    kelvin_per_w=6.0,
    warm_up_s=300,
    slow_at_c=85,
    has_bits=False,
    habits=(
        Habit(4, (6, 22), (20, 90), (0.2, 0.5), (0.25, 0.55)),  # video of several cameras
        Habit(6, (8, 20), (3, 15), (0.5, 1.05), (0.25, 0.5)),  # its evaluation
    ),
)
PHONE = Picture(
    # Four fast and four slow cores; Android keeps most of the memory in use. 15 Wh is about
    # 4,000 mAh at 3.85 V; everything else is assumed, and the screen is left out.
    name="phone",
    cores=FOUR_AND_FOUR,
    speeds=(0.9, 0.35),
    core_w=(0.6, 0.15),
    memory_mib=3700,
    system_mib=1700,
    idle_w=0.25,
    kelvin_per_w=9.0,
    warm_up_s=180,
    slow_at_c=75,
    has_bits=False,
    habits=(
        Habit(25, (7, 23), (2, 12), (0.1, 0.3), (0.10, 0.28)),  # apps
        Habit(2, (12, 23), (15, 40), (0.3, 0.6), (0.20, 0.40)),  # games
    ),
    battery=Battery(wh=15, charge_w=7.5, plugged=(23, 7), kelvin_per_w=3.5),
)
PICTURES = (PI_4, PI_5, BIG_LITTLE, PHONE)
