-- Takes people out of production's data before staging serves it. Named in the matrix:
--   paths:
--     - {source: production, target: staging, when: unattended, before_swap: sql/sanitise.sql}
-- It runs in the new database, in one transaction, as the database's owner. If it fails, the target stays as it is.
-- Documents are not touched by it.

UPDATE auth_user SET
    username = 'user' || id,
    first_name = '',
    last_name = '',
    email = 'user' || id || '@example.invalid',
    password = '!';  -- what Django writes where no password fits

TRUNCATE django_session;
