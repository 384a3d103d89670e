DROP TABLE suite_folders;
DROP TABLE hook_refusals;
