"""Commands of operators and verifiers."""

from pathlib import Path


def agent(config: Path) -> None:
    """Run the agent of an operator or verifier, which holds the key outside Ray.

    Args:
        config: The agent's configuration, a file in canonical JSON.
    """
    from gensyn_ray.operators.agent_daemon import main

    main(config)
