"""What it takes to run a Claude skill, agent or slash command as an agent: what is granted, where, at what cost.

The backend that puts it together is `evals/models/claude_agent.py`; docs/decisions/0021-agents.md says why it is so.
"""
