-- How long a replica may answer from memory after a renewal: revocations wait for the longest on the list.
-- Null: registered by a release that does not tell.

alter table replica add column lease_ms bigint;
