"""`/` and `/setup`: what somebody sees who was told this service's address and nothing else."""

from __future__ import annotations

import re

import pytest

from tests.service import Service


@pytest.mark.parametrize("path", ["/", "/setup"])
def test_start__every_way_in_is_named_and_every_link_leads_somewhere(service: Service, path: str):
    visitor = service.visitor()

    page = visitor.get(path)

    assert page.status_code == 200
    assert "`" not in page.text
    links = set(re.findall(r'href="(/[^"]*)"', page.text))
    assert {"/setup/github", "/setup/gitlab", "/account"} <= links
    # Some ask who it is first.
    private = {"/account", "/setup/gitlab"}
    assert {link: visitor.get(link).status_code for link in links} == {
        link: 401 if link in private else 200 for link in links
    }


def test_start__says_how_a_terminal_reaches_this_very_service(service: Service):
    assert f"export PRPM_REGISTRY_URL={service.url}\n" in service.visitor().get("/").text


def test_pages__lead_back_to_the_start(service: Service):
    page = service.visitor().get("/docs").text

    assert 'href="/"' in page
