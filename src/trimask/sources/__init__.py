"""Read raw data (files, tables, archives, data sets on the hub) as encoded items, divided into parts."""
