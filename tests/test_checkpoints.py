import random
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from autodisp.checkpoints import Checkpoints, read_checkpoint
from autodisp.errors import InputError, RunFault
from autodisp.run_state import VERSION, RunState
from autodisp.search.loop import SearchProgress
from tests.programs import differences

EMPTY = {"version": VERSION, "parts": {}, "streams": {}, "progress": {}, "rng": {}, "records": 0}


class Stream:
    position = 3

    def seek(self, position: int) -> None:
        self.position = position


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Checkpoints, bytes, dict[str, Any]]:
    checkpoints = Checkpoints(tmp_path)
    layer = nn.Linear(5, 3)
    state = RunState(parts={"network": layer}, streams={"weights": Stream()}, progress=SearchProgress(1e-3)).capture()
    checkpoints.save(4, state)
    return checkpoints, checkpoints.path(4).read_bytes(), checkpoints.load(4)


def outcome(checkpoints: Checkpoints, content: bytes) -> dict[str, Any] | str:
    checkpoints.path(4).write_bytes(content)
    try:
        return checkpoints.load(4)
    except InputError as error:
        return str(error)


def test_a_truncated_file_is_refused(saved: tuple[Checkpoints, bytes, dict[str, Any]]) -> None:
    checkpoints, content, _ = saved
    for length in [*range(0, len(content), 97), len(content) - 1]:
        assert "epoch_0004.pt: cannot be read as a checkpoint" in outcome(checkpoints, content[:length])


def test_a_damaged_file_is_refused_or_read_as_it_was(saved: tuple[Checkpoints, bytes, dict[str, Any]]) -> None:
    checkpoints, content, whole = saved
    draw = random.Random(0)
    refused = 0
    for _ in range(200):
        damaged = bytearray(content)
        start = draw.randrange(len(damaged))
        for position in range(start, min(start + draw.choice([1, 1, 50]), len(damaged))):
            damaged[position] = draw.randrange(256)
        found = outcome(checkpoints, bytes(damaged))
        if isinstance(found, str):
            assert "epoch_0004.pt: " in found
            assert "\n" not in found
            refused += 1
        else:
            assert differences(found, whole) == []
    assert refused > 50


def test_damage_in_the_weights_is_noticed(saved: tuple[Checkpoints, bytes, dict[str, Any]]) -> None:
    checkpoints, content, whole = saved
    weight = whole["parts"]["network"]["weight"].numpy().tobytes()
    position = content.index(weight) + 7
    damaged = content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]
    assert "damaged, the checksum of its part" in outcome(checkpoints, damaged)


@pytest.mark.parametrize(
    "state",
    [
        {"version": VERSION},
        {"parts": {}},
        [1, 2],
        torch.zeros(3),
    ],
)
def test_other_files_are_refused(state: Any, tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(0, state)
    with pytest.raises(InputError, match=rf"epoch_0000\.pt: not a checkpoint of version {VERSION}"):
        checkpoints.load(0)


@pytest.mark.parametrize("version", [VERSION - 1, VERSION + 1])
def test_a_state_of_another_version_is_refused_and_not_passed_over(version: int, tmp_path: Path) -> None:
    """The same config may be another run by now: it must not continue as that, from an older state or from none."""
    checkpoints, told = Checkpoints(tmp_path), list[str]()
    checkpoints.save(0, EMPTY)
    checkpoints.save(1, {**EMPTY, "version": version})
    with pytest.raises(InputError, match=rf"epoch_0001\.pt: a state of version {version}, .* start another run$"):
        checkpoints.newest(told.append)
    assert told == []


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "trace",)

    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(0, {**EMPTY, "parts": Attack()})
    with pytest.raises(InputError, match=r"epoch_0000\.pt: cannot be read as a checkpoint \(UnpicklingError\)"):
        checkpoints.load(0)
    assert not (tmp_path / "trace").exists()


def test_missing_epochs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"epoch_0003.pt: .*FileNotFoundError"):
        Checkpoints(tmp_path / "absent").load(3)
    assert Checkpoints(tmp_path / "absent").epochs() == []


def test_only_wanted_epochs_stay_and_foreign_files_are_let_alone(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for epoch in (3, 0, 12345, 7):
        checkpoints.save(epoch, EMPTY)
    checkpoints.save(8, EMPTY, step=4)
    foreign = [tmp_path / name for name in ("epoch_final.pt", "notes.txt", "epoch_3.pt", ".1.step_0001.pt")]
    for path in foreign:
        path.write_text("mine")
    (tmp_path / ".1.epoch_0004.pt").write_text("what a killed run left")
    assert checkpoints.epochs() == [0, 3, 7, 12345]
    checkpoints.keep_only({7, 3, 99})
    assert checkpoints.epochs() == [3, 7]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["epoch_0003.pt", "epoch_0007.pt", *(path.name for path in foreign)]
    )
    checkpoints.keep_only(iter([7]))
    assert checkpoints.epochs() == [7]
    checkpoints.keep_only([])
    assert checkpoints.epochs() == []
    assert all(path.read_text() == "mine" for path in foreign)


def test_the_newest_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is killed in between finds what its newest state may ask for."""
    checkpoints = Checkpoints(tmp_path)
    for epoch in range(5):
        checkpoints.save(epoch, EMPTY)
    checkpoints.save(2, EMPTY, step=9)
    gone: list[str] = []
    original = Path.unlink

    def unlink(path: Path, missing_ok: bool = False) -> None:
        gone.append(path.name)
        original(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    checkpoints.keep_only([1])
    assert gone == ["epoch_0004.pt", "epoch_0003.pt", "epoch_0002.pt", "epoch_0002_at_000009.pt", "epoch_0000.pt"]


def test_the_newest_is_the_farthest_on(tmp_path: Path) -> None:
    checkpoints, said = Checkpoints(tmp_path), []
    assert checkpoints.newest(said.append) is None
    for records, (epoch, step) in enumerate([(0, 0), (1, 0), (2, 3), (2, 17), (2, 0), (3, 1)]):
        checkpoints.save(epoch, {**EMPTY, "records": records}, step=step)
        newest = checkpoints.newest(said.append)
        assert newest is not None
        assert newest["records"] == records
    assert said == []


def test_a_damaged_newest_falls_back_to_the_one_before(tmp_path: Path) -> None:
    checkpoints, said = Checkpoints(tmp_path), []
    for epoch in range(3):
        checkpoints.save(epoch, {**EMPTY, "records": epoch})
    for epoch, content in ((2, b""), (1, checkpoints.path(1).read_bytes()[:-7])):
        checkpoints.path(epoch).write_bytes(content)
    newest = checkpoints.newest(said.append)
    assert newest is not None
    assert newest["records"] == 0
    assert [line.partition(":")[0] for line in said] == [str(checkpoints.path(2)), str(checkpoints.path(1))]
    assert all("the state before it is taken" in line for line in said)
    checkpoints.path(0).write_bytes(b"")
    with pytest.raises(InputError, match="none of its 3 states can be read"):
        checkpoints.newest(said.append)


def test_a_file_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(0, EMPTY)

    def fail(state: object, file: Any) -> None:
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", fail)
        for epoch in (0, 1):
            with pytest.raises(RunFault, match=rf"epoch_000{epoch}\.pt: cannot be written \(No space left on device\)"):
                checkpoints.save(epoch, EMPTY)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch_0000.pt"]
    assert checkpoints.load(0) == EMPTY
    checkpoints.save(1, EMPTY)
    assert checkpoints.load(1) == EMPTY


def test_a_folder_that_went_away_is_not_made_anew(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints")
    with pytest.raises(RunFault, match=r"epoch_0000\.pt: cannot be written \(No such file or directory\)"):
        checkpoints.save(0, EMPTY)
    assert not (tmp_path / "run").exists()


def test_nothing_unpacks_to_more_than_its_size(tmp_path: Path) -> None:
    """A small archive that claims much is refused before memory is asked for."""
    whole, packed = tmp_path / "epoch_0000.pt", tmp_path / "epoch_0001.pt"
    torch.save({**EMPTY, "parts": {"zeros": torch.zeros(1 << 22)}}, whole)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for part in source.infolist():
            target.writestr(part.filename, source.read(part))
    assert packed.stat().st_size < 100_000
    with pytest.raises(InputError, match="which holds no compressed parts"):
        read_checkpoint(packed)
