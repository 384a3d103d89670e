"""What the Action runs: it packs a package, has it tested by the service, and tells where people look.

Starts on Python 3.10 or newer with the standard library alone (`python3 -I -S action_entry/__main__.py`) and imports
`notifiers` and nothing else of ours. `ci/` holds one file for each CI system.

    inputs.py     what a workflow may ask for; the one list behind action.yml and the README's table
    outputs.py    what a workflow may read afterwards
    errors.py     why nothing could be tested, and who can mend it
    ci/           where it runs: the event, the log, the places for results (ADD A CI PROVIDER HERE)
    projects.py   folders with packages, and which of them a change touched
    packing.py    a folder's package as an archive, through no link
    wire.py       requests with bounded tries, and a stream of events
    service.py    the service's API, as far as it is needed here
    following.py  events, else waiting, else looking, until the job ends
    gate.py       what the results mean for the workflow
    telling.py    comment, check run, chats
    writing.py    summary, outputs, report files
    program.py    the whole way, and what an interruption does
"""
