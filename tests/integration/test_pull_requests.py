"""What comes of a pull request, from GitHub's delivery to the job, on a whole service and a strict stand-in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.forge_stories import Story, a_package, a_story, forge_service
from tests.service import Service
from tests.standins.github_forge import GitHubForge


@pytest.fixture(scope="module")
def site(
    admin_dsn: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory, template_dsn: str
) -> Iterator[tuple[Service, GitHubForge]]:
    yield from forge_service(admin_dsn, redis_url, tmp_path_factory.mktemp("pulls"))


@pytest.fixture
def story(site: tuple[Service, GitHubForge]) -> Iterator[Story]:
    made = a_story(*site)
    yield made
    assert made.forge.violations == []


def test_pull_request__the_packages_that_it_touches_are_tested_at_its_head(story: Story):
    base = story.commit(a_package("one", folder="one") | a_package("two", folder="two"), branch="main")
    head = story.commit({"two/prompt.md": b"Greet very politely."}, on=base)
    story.propose(head, base)

    delivery = story.tell_of(head, action="opened")

    assert story.ended(delivery) == ("handled", "1 job submitted.")
    (job,) = story.jobs_ended(1)
    assert (job["package"], job["conclusion"]) == ("two", "passed")
    assert job["change"] == {
        "forge": "github", "repository": story.forge.name, "repository_id": story.forge.id, "ref": "feature",
        "head_sha": head, "base_ref": "main", "base_sha": base, "pull_request": 12, "cause": "head",
    }  # fmt: skip
    assert story.outcome(job)["comparison"]["source"]["name"] == "main"
