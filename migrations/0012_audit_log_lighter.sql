-- What nobody asks of the audit log, and every event paid for.

-- The mapping of a time to a position reads `event`, which has the same index.
drop index audit_log_recorded_at_idx;

-- Read as a whole and never searched: `json` is stored as it comes, `jsonb` is taken apart first.
alter table audit_log alter column data type json, alter column sealed type json;
