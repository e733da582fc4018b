"""Profiles on disk hold for one runtime, kernel and mask."""

from pathlib import Path

from agent.storage.profiles import ProfileFile
from protocols.profile import LayoutRun, ProfileKey, StageProfile

RUN = LayoutRun(
    layout="intra-op",
    threads=1,
    cpus=None,
    count=50,
    p50_ms=1.0,
    p95_ms=2.0,
    answers_per_s=900.0,
    cpu_ms=1.0,
    load_ms=3.0,
    peak_rss_mib=4.0,
)


def profile(*cpus: int) -> StageProfile:
    key = ProfileKey(artifact="ab" * 32, runtime="litert 1", kernel="6.1", cpus=cpus)
    return StageProfile(key=key, measured_ts=1.0, runs=(RUN,))


def test_another_mask_has_profiles_of_its_own_and_the_old_ones_come_back(tmp_path: Path) -> None:
    whole, half = profile(0, 1), profile(0)
    file = ProfileFile(tmp_path / "profiles.json", "litert 1", "6.1", (0, 1))
    file.put(whole)
    file.use((0,))
    assert not file.valid
    file.put(half)
    assert file.valid == (half,)
    file.use((1, 0))
    assert file.valid == (whole,)
    again = ProfileFile(tmp_path / "profiles.json", "litert 1", "6.1", (0,))
    assert again.valid == (half,)
