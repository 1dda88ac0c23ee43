-- How far a correction moved the use of its quota, so that the ledger can be compared with the sums and the corrections. Null in corrections of before, which
-- moved it by their units if their period was open.
ALTER TABLE usage_corrections ADD COLUMN quota_moved numeric;
