-- For a SQLite ledger that was made before schemas had versions: its table does not check how an id is spelled.

CREATE TRIGGER transactions_spelled_once BEFORE INSERT ON transactions
WHEN typeof(NEW.transaction_id) <> 'text' OR typeof(NEW.asset) <> 'text'
    OR NEW.transaction_id GLOB '*[^0-9a-f-]*'
    OR NEW.transaction_id NOT GLOB '????????-????-????-????-????????????'
BEGIN
    SELECT RAISE(ABORT, 'a transaction_id is a UUID, hyphenated and in lower case, and text');
END;
