DROP TABLE change_turns, change_heads;
