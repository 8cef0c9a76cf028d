"""The Tab key completes commands and options in a real shell."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from movieplotgpt.cli import main

ASK = """
source "$1"
shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_movieplotgpt "$1" "${@: -1}" "${@: -2:1}"
echo "${COMPREPLY[@]}"
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_commands_and_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "completion"
    script.write_text(capsys.readouterr().out, encoding="utf-8")

    def completed(*words: str) -> list[str]:
        command = ["bash", "-c", ASK, "bash", str(script), "movieplotgpt", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    assert completed("gen") == ["generate"]
    assert completed("generate", "--tem") == ["--temperature"]
    assert set(completed("export", "--to", "")) >= {"gguf", "onnx"}


@pytest.mark.parametrize("shell", ["zsh", "fish", "powershell"])
def test_other_shells_have_a_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert "generate" in capsys.readouterr().out
