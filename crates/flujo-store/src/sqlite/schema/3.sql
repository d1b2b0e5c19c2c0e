-- Version 3: a run's row that names a worker, whether or not that one is still there, may be behind the run's log. The
-- records that it doesn't tell of are the run's among the 256 keys behind the last one that it `told` (there are none while
-- that is NULL); `last` and `bytes` are behind by as many. A commit that only appends a record changes one page then, where
-- it changed two. A process of an earlier version, which would take such a row for all of the log, finds no `tail` in it.

ALTER TABLE runs RENAME COLUMN tail TO told;
