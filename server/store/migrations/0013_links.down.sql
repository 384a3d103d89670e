DROP TABLE setup_tickets, forge_apps, linked_repositories, hooks, installations;
