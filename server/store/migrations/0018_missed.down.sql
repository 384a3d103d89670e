DROP TABLE missed_deliveries;
DROP TABLE delivery_looks;
