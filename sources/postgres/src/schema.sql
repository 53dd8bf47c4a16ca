-- Florin's ledger in PostgreSQL: what `florin ledger init` makes. {table}, {accounts}, {assign}, {refuse}, {identity} and {publication}
-- are put in. To run it again changes nothing.

CREATE TABLE IF NOT EXISTS {table} (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- commits do not come in its order
    -- A UUID, hyphenated and in lower case: an id that could be spelled in two ways would be counted twice.
    transaction_id TEXT NOT NULL UNIQUE CHECK (transaction_id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'),
    user_id BIGINT NOT NULL CHECK (user_id >= 0),
    version BIGINT NOT NULL CHECK (version >= 1), -- dense, from 1, for each user
    asset TEXT NOT NULL CHECK (asset ~ '^[A-Z0-9_]{1,8}$'),
    -- 1 recharge, 2 gift_received, 3 refund, 4 adjustment_credit, 5 gift_sent, 6 withdrawal, 7 adjustment_debit,
    -- 8 hold, 9 release, 10 capture
    kind SMALLINT NOT NULL CHECK (kind BETWEEN 1 AND 10),
    amount BIGINT NOT NULL CHECK (amount >= 1), -- minor units of the asset
    -- Microseconds since 1970-01-01T00:00:00Z, in the years 0001 to 9999.
    occurred_at BIGINT NOT NULL CHECK (occurred_at BETWEEN -62135596800000000 AND 253402300799999999),
    CONSTRAINT {identity} UNIQUE (user_id, version)
);

-- A row is locked by whoever adds to its account, until that is committed: so versions are in the order of commits.
CREATE TABLE IF NOT EXISTS {accounts} (user_id BIGINT PRIMARY KEY);

-- The last version is read, and not counted: a row that ON CONFLICT leaves out must not take a number with it.
CREATE OR REPLACE FUNCTION {assign}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO {accounts} (user_id) VALUES (NEW.user_id) ON CONFLICT DO NOTHING;
    PERFORM 1 FROM {accounts} WHERE user_id = NEW.user_id FOR NO KEY UPDATE;
    SELECT coalesce(max(version), 0) + 1 INTO NEW.version FROM {table} WHERE user_id = NEW.user_id;
    RETURN NEW;
END $$;

CREATE OR REPLACE FUNCTION {refuse}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a transaction is never changed or removed: add one that corrects it';
END $$;

CREATE OR REPLACE TRIGGER transactions_version BEFORE INSERT ON {table}
    FOR EACH ROW WHEN (NEW.version IS NULL) EXECUTE FUNCTION {assign}();
CREATE OR REPLACE TRIGGER transactions_never_changed BEFORE UPDATE OR DELETE ON {table}
    FOR EACH ROW EXECUTE FUNCTION {refuse}();
CREATE OR REPLACE TRIGGER transactions_never_emptied BEFORE TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION {refuse}();

-- Should somebody remove a row all the same, whose it was is in the log.
ALTER TABLE {table} REPLICA IDENTITY USING INDEX {identity};
