-- Event triggers: only a superuser may make them, so they stand apart from zoo.sql. Run as a superuser, after it.

CREATE TABLE event_log (happened text, tag text);
CREATE FUNCTION note_event() RETURNS event_trigger LANGUAGE plpgsql
    AS $$ BEGIN INSERT INTO public.event_log VALUES (tg_event, tg_tag); END $$;
CREATE EVENT TRIGGER note_ddl ON ddl_command_end WHEN TAG IN ('CREATE VIEW') EXECUTE FUNCTION note_event();
CREATE EVENT TRIGGER note_nothing ON sql_drop EXECUTE FUNCTION note_event();
ALTER EVENT TRIGGER note_nothing DISABLE;
COMMENT ON EVENT TRIGGER note_ddl IS 'says which views were made';
GRANT ALL ON event_log TO PUBLIC;
