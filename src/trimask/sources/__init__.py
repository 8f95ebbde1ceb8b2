"""Raw data as it is found, files, tables, archives, data sets of a hub: to items, in any order, by part."""
