-- Florin's ledger: what has happened, and in which order. Rows are only ever added.
--
-- One text for SQLite and PostgreSQL but for what follows "SQLite only", and the line marked (*), which in PostgreSQL reads
--     seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
--
-- A writer assigns `version` (the account's largest so far + 1) in the same database transaction that inserts the row.
-- `seq` orders SQLite's commits, which it makes one at a time; in PostgreSQL it does not: there the order of commits
-- comes from the replication stream.

CREATE TABLE transactions (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, -- (*) never used twice: a feed's saved position stays true
    -- A UUID, hyphenated and in lower case: an id that could be spelled in two ways would be counted twice.
    transaction_id TEXT NOT NULL UNIQUE CHECK (
        length(transaction_id) = 36 AND length(replace(transaction_id, '-', '')) = 32
        AND ltrim(replace(transaction_id, '-', ''), '0123456789abcdef') = ''
        AND substr(transaction_id, 9, 1) || substr(transaction_id, 14, 1) || substr(transaction_id, 19, 1)
            || substr(transaction_id, 24, 1) = '----'
    ),
    user_id BIGINT NOT NULL CHECK (user_id BETWEEN 0 AND 9223372036854775807),
    version BIGINT NOT NULL CHECK (version BETWEEN 1 AND 9223372036854775807), -- dense, from 1, for each user
    asset TEXT NOT NULL CHECK (
        length(asset) BETWEEN 1 AND 8 AND ltrim(asset, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_') = ''
    ),
    -- 1 recharge, 2 gift_received, 3 refund, 4 adjustment_credit, 5 gift_sent, 6 withdrawal, 7 adjustment_debit,
    -- 8 hold, 9 release, 10 capture
    kind SMALLINT NOT NULL CHECK (kind BETWEEN 1 AND 10),
    amount BIGINT NOT NULL CHECK (amount BETWEEN 1 AND 9223372036854775807), -- minor units of the asset
    -- Microseconds since 1970-01-01T00:00:00Z, in the years 0001 to 9999.
    occurred_at BIGINT NOT NULL CHECK (occurred_at BETWEEN -62135596800000000 AND 253402300799999999),
    UNIQUE (user_id, version),
    -- SQLite keeps a fraction as it is, even in a BIGINT column, and bytes that are no text.
    CHECK (
        transaction_id = CAST(transaction_id AS TEXT) AND asset = CAST(asset AS TEXT) AND
        user_id = CAST(user_id AS BIGINT) AND version = CAST(version AS BIGINT) AND kind = CAST(kind AS BIGINT)
        AND amount = CAST(amount AS BIGINT) AND occurred_at = CAST(occurred_at AS BIGINT)
    )
);

-- SQLite only, from here on.
--
-- Rows are only ever added, each behind all others: whoever follows the ledger has read past what would change.

CREATE TRIGGER IF NOT EXISTS transactions_added_last AFTER INSERT ON transactions
WHEN NEW.seq < (SELECT max(seq) FROM transactions)
BEGIN
    SELECT RAISE(ABORT, 'a transaction is added behind all others: leave seq to the ledger');
END;

CREATE TRIGGER IF NOT EXISTS transactions_never_changed
BEFORE UPDATE OF seq, transaction_id, user_id, version, asset, kind, amount, occurred_at ON transactions
BEGIN
    SELECT RAISE(ABORT, 'a transaction is never changed: add one that corrects it');
END;

CREATE TRIGGER IF NOT EXISTS transactions_never_removed BEFORE DELETE ON transactions
BEGIN
    SELECT RAISE(ABORT, 'a transaction is never removed: add one that corrects it');
END;

-- INSERT OR REPLACE removes rows without asking the trigger above, unless recursive_triggers is on. What is about to be added
-- notes the rows that it meets; once it is added they must still be there. INSERT OR IGNORE adds nothing, and may.

CREATE TABLE IF NOT EXISTS transactions_met (seq INTEGER PRIMARY KEY);

CREATE TRIGGER IF NOT EXISTS transactions_meeting BEFORE INSERT ON transactions
WHEN EXISTS (SELECT 1 FROM transactions WHERE transaction_id = NEW.transaction_id)
    OR EXISTS (SELECT 1 FROM transactions WHERE user_id = NEW.user_id AND version = NEW.version)
    OR NEW.seq = (SELECT max(seq) FROM transactions)
BEGIN
    INSERT OR IGNORE INTO transactions_met
    SELECT seq FROM transactions WHERE seq = NEW.seq
    UNION SELECT seq FROM transactions WHERE transaction_id = NEW.transaction_id
    UNION SELECT seq FROM transactions WHERE user_id = NEW.user_id AND version = NEW.version;
END;

CREATE TRIGGER IF NOT EXISTS transactions_never_replaced AFTER INSERT ON transactions
WHEN EXISTS (SELECT 1 FROM transactions_met)
BEGIN
    SELECT RAISE(ABORT, 'a transaction is never replaced: add one that corrects it') FROM transactions_met AS met
    WHERE met.seq = NEW.seq OR NOT EXISTS (SELECT 1 FROM transactions WHERE seq = met.seq);
    DELETE FROM transactions_met;
END;

PRAGMA user_version = 2; -- of this schema
