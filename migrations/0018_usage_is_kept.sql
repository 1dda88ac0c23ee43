-- What was accepted is appended to and never changed: a correction stands beside it (SEMANTICS M11). Triggers of UPDATE, DELETE and TRUNCATE cost an
-- INSERT or a COPY nothing. The partitions have those of rows, those of months to come as well; retention drops whole partitions.

CREATE TRIGGER usage_rows_are_never_changed BEFORE UPDATE ON usage_rows FOR EACH ROW EXECUTE FUNCTION refuse_change();
-- Rows leave the default partition when their month is made; who moves them says so, in that transaction.
CREATE TRIGGER usage_rows_are_kept BEFORE DELETE ON usage_rows FOR EACH ROW
    WHEN (current_setting('tollkeeper.moves_rows', true) IS DISTINCT FROM 'on') EXECUTE FUNCTION refuse_change();
CREATE TRIGGER usage_rows_are_not_emptied BEFORE TRUNCATE ON usage_rows FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TRIGGER usage_unattributed_is_kept BEFORE UPDATE OR DELETE ON usage_unattributed FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER usage_unattributed_is_not_emptied BEFORE TRUNCATE ON usage_unattributed FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
