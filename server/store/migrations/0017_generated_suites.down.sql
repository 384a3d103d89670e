DROP TABLE generated_suites;
