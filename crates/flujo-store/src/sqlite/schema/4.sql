-- Version 4: a run's row may be behind its log by the run's records among the 1,024 keys behind the last one that it `tells`
-- of, where that were 256. Of a hundred runs at once each then writes its row with every tenth record, where it did with
-- every third. New checksums are XXH3's, and those of BLAKE3 that are there stay. A process of an earlier version, which
-- would look for fewer records and take new sums for damage, finds no `told` in it.

ALTER TABLE runs RENAME COLUMN told TO tells;
