"""Sets of actions for DeepMind Lab: what a policy chooses from, as what the engine takes."""

from __future__ import annotations

ACTION_SPEC = (
    "LOOK_LEFT_RIGHT_PIXELS_PER_FRAME",
    "LOOK_DOWN_UP_PIXELS_PER_FRAME",
    "STRAFE_LEFT_RIGHT",
    "MOVE_BACK_FORWARD",
    "FIRE",
    "JUMP",
    "CROUCH",
)
"""What the engine's seven numbers are. A level may add others, and can then not be played."""


def _action(turn: int = 0, pitch: int = 0, strafe: int = 0, move: int = 0, fire: int = 0) -> tuple[int, ...]:
    """The engine's seven numbers. Turn and pitch are pixels a frame: positive is right, and down."""
    return (turn, pitch, strafe, move, fire, 0, 0)


ACTIONS = {
    # IMPALA (arXiv 1802.01561), appendix D
    "impala": (
        *(_action(move=1), _action(move=-1), _action(strafe=-1), _action(strafe=1)),
        *(_action(turn=-20), _action(turn=20), _action(turn=-20, move=1), _action(turn=20, move=1)),
        _action(fire=1),
    ),
    # PopArt for many tasks (arXiv 1809.04474), appendix; R2D2 takes the same
    "popart": (
        *(_action(move=1), _action(move=-1), _action(strafe=-1), _action(strafe=1)),
        *(_action(turn=-10), _action(turn=10), _action(turn=-60), _action(turn=60)),
        *(_action(pitch=10), _action(pitch=-10)),
        *(_action(turn=-10, move=1), _action(turn=10, move=1)),
        *(_action(turn=-60, move=1), _action(turn=60, move=1)),
        _action(fire=1),
    ),
}
