DROP INDEX deliveries_failed;
DROP TABLE missed_deliveries;
DROP TABLE delivery_looks;
