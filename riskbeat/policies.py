"""settings → the policy that they name, compiled for the spec that they name."""

from pathlib import Path

from features.spec import Spec
from models.policy import read_text
from models.policy_cel import CelCompiler
from models.policy_ruling import Rulebook, Ruler, compile_policy


def compile_text(text: str, name: str, spec: Spec) -> Rulebook:
    """Check a policy's text against a spec; `name` stands for the file in errors.

    Raises:
        PolicyError: It is no policy for this spec.
    """
    return compile_policy(text, name, spec, CelCompiler)


def ruler_of_file(path: Path, spec: Spec) -> Ruler:
    """Return what rules by a policy file until a store says otherwise.

    Raises:
        PolicyError: The file is absent, or no policy for this spec.
    """
    return Ruler(spec, compile_text(read_text(path), path.name, spec))
