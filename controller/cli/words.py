"""How figures and states read in a table: ages, sizes, rungs, cascades. Pure."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from protocols.bundle import BundleRef
    from protocols.device import Reported, ReportedCascade, Rungs, Sample

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400
_KIB = 1024.0


def age(seconds: float | None) -> str | None:
    """Return a span of time as kubectl writes it: 5s, 3m12s, 2h5m, 4d6h; None stays None."""
    if seconds is None:
        return None
    whole = max(0, int(seconds))
    if whole < _MINUTE_S:
        return f"{whole}s"
    if whole < _HOUR_S:
        return _two(whole, _MINUTE_S, "m", 1, "s")
    if whole < _DAY_S:
        return _two(whole, _HOUR_S, "h", _MINUTE_S, "m")
    return _two(whole, _DAY_S, "d", _HOUR_S, "h")


def _two(whole: int, big: int, big_unit: str, small: int, small_unit: str) -> str:
    rest = whole % big // small
    return f"{whole // big}{big_unit}" + (f"{rest}{small_unit}" if rest else "")


def size(count_bytes: float | None) -> str | None:
    """Return a number of bytes with a binary unit: 512 B, 1.5 KiB, 20 MiB; None stays None."""
    if count_bytes is None:
        return None
    value = float(count_bytes)
    if value < _KIB:
        return f"{value:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        value /= _KIB
        if value < _KIB or unit == "GiB":
            break
    return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"  # noqa: PLR2004


def mib(value: float | None) -> str | None:
    """Return MiB as a size; None stays None."""
    return None if value is None else size(value * _KIB * _KIB)


def percent(value: float | None) -> str | None:
    """Return a percentage without decimals; None stays None."""
    return None if value is None else f"{value:.0f}%"


def milliseconds(value: float | None) -> str | None:
    """Return milliseconds with three significant digits at most; None stays None."""
    if value is None:
        return None
    return f"{value:.0f} ms" if value >= 100 else f"{value:.3g} ms"  # noqa: PLR2004


def joules(value: float | None, method: str | None) -> str | None:
    """Return an energy with the method by which it was found: `4.2 mJ rail`; None stays None."""
    if value is None or method is None:
        return None
    for unit, factor in (("J", 1.0), ("mJ", 1e3)):
        if value * factor >= 1:
            return f"{value * factor:.3g} {unit} {method}"
    return f"{value * 1e6:.3g} uJ {method}"


def rungs(found: "Rungs | None") -> str | None:
    """Return both rungs as `R0 C1`."""
    return None if found is None else f"R{found.residency} C{found.compute}"


def battery(sample: "Sample | None") -> str | None:
    """Return the charge, with `+` while plugged in; None where there is no battery to know."""
    if sample is None or sample.battery_percent is None:
        return None
    return f"{sample.battery_percent:.0f}%{'+' if sample.battery_plugged else ''}"


def temperature(sample: "Sample | None") -> str | None:
    """Return the hottest zone in degrees Celsius."""
    if sample is None or sample.temperature_c is None:
        return None
    return f"{sample.temperature_c:.0f}C"


def cpus(found: "Sequence[int] | None") -> str:
    """Return a set of CPUs: `0-3`, `4,5,7`; None is any."""
    if found is None:
        return "any"
    runs: list[list[int]] = []
    for cpu in sorted(found):
        if runs and cpu == runs[-1][-1] + 1:
            runs[-1].append(cpu)
        else:
            runs.append([cpu])
    return ",".join(f"{r[0]}-{r[-1]}" if len(r) > 2 else ",".join(map(str, r)) for r in runs)  # noqa: PLR2004


def ref(bundle: "BundleRef | None") -> str | None:
    """Return a bundle as `name@version`."""
    return None if bundle is None else f"{bundle.name}@{bundle.version}"


def cascade(reported: "ReportedCascade") -> str:
    """Return a cascade in a word: `digits@2`, with its phase where that is not `running`."""
    name = f"{reported.bundle.name}@{reported.bundle.version}"
    return name if reported.phase == "running" else f"{name} ({reported.phase})"


def cascades(reported: "Reported | None") -> str | None:
    """Return all the cascades of a device, in one line."""
    if reported is None or not reported.cascades:
        return None
    return listed([cascade(one) for one in reported.cascades])


def listed(parts: "Sequence[str]", most: int = 6) -> str:
    """Return a list for a cell or a message, its end counted: `a, b and 30 more`."""
    shown = parts if len(parts) <= most else parts[: most - 1]
    rest = f" and {len(parts) - len(shown)} more" if len(shown) < len(parts) else ""
    return ", ".join(shown) + rest


def count(number: int, noun: str) -> str:
    """Return a number of things: `1 device`, `2 devices`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
