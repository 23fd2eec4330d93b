#!/bin/bash
# Break glass: restores one backup where neither GitHub nor fac-backup can be had. It needs bash, openssl 3, zstd, psql,
# pg_restore, and either aws or rclone; nothing else.
#
# Take this file and SHA256SUMS from the release, never from a bucket: whoever can write a bucket would choose what you run.
#
#   bash restore.sh --public-key production.pem --work EMPTY_FOLDER [--look] \
#        [--documents LABEL=s3://BUCKET[/PREFIX]]... s3://BACKUPS_BUCKET[/PREFIX] BACKUP_ID
#
#   --public-key  the space's Ed25519 public key (`public_keys` in action-matrix.yml, as a PEM file). Where no signatures are
#                 used write --unsigned instead: then whoever could write the bucket could have written what runs here.
#   --work        an empty folder for files in passing: the listing of documents, one piece, a document for each job.
#   --look        check the signature, say what the backup is and what kind of database it wants, and stop.
#
# The database is chosen by PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE. It must be empty; make it with the encoding and
# locale that --look shows, owned by PGUSER. S3 is reached by `aws` as it is configured (AWS_*), or, if RCLONE_REMOTE
# names a configured remote, by rclone; RCLONE_DOCUMENTS_REMOTE where documents need another. JOBS documents are copied at
# a time (8). With `aws` one key must reach both buckets, and a document has at most 5 GiB. rclone needs neither, but changes
# some keys (control characters, //, /./): those are named, and left out.
#
# What it promises: nothing is read before the manifest's signature is checked; every piece has its size and SHA-256 before
# one byte of it reaches pg_restore or psql; names from the bucket become SQL by format('%I') only, and never a local path.
# Exit codes: 0 done, 1 failed, 2 wrong usage, 5 something in the bucket is not what it should be.
set -euo pipefail
umask 077

say() { printf 'restore.sh: %s\n' "$*" >&2; }
die() { local code=$1; shift; say "$*"; exit "$code"; }

public_key='' unsigned='' work='' look='' places=()
while [[ ${1:-} == --* ]]; do
  case $1 in
    --unsigned) unsigned=yes ;;
    --look) look=yes ;;
    --public-key) public_key=${2:?}; shift ;;
    --work) work=${2:?}; shift ;;
    --documents) places+=("${2:?}"); shift ;;
    *) die 2 "There is no option $1; the first lines of this file explain all of them." ;;
  esac
  shift
done
[[ $# == 2 && $work && ($public_key || $unsigned) ]] || die 2 "Usage: see the first lines of this file."
[[ $1 =~ ^s3://([a-z0-9][a-z0-9.-]+)(/([A-Za-z0-9._/-]*))?$ ]] || die 2 "The first address must be s3://bucket/prefix."
bucket=${BASH_REMATCH[1]} prefix=${BASH_REMATCH[3]%/}
[[ $2 =~ ^([a-z][a-z0-9-]{0,30})_[0-9]{8}T[0-9]{6}Z_[a-z][a-z0-9-]{0,30}$ ]] || die 2 "That is no backup id."
id=$2 root=${prefix:+$prefix/}${BASH_REMATCH[1]}/
for place in ${places[@]+"${places[@]}"}; do
  [[ $place =~ ^[a-z][a-z0-9-]{0,30}=s3://[a-z0-9][a-z0-9.-]+(/[A-Za-z0-9._/-]*)?$ ]] ||
    die 2 "--documents takes label=s3://bucket/prefix."
done
: "${PGDATABASE:?names the empty database}"
[[ $PGDATABASE != *[=/:]* ]] || die 2 "PGDATABASE is the name of a database; host and user have variables of their own."
remote=${RCLONE_REMOTE:-} documents_remote=${RCLONE_DOCUMENTS_REMOTE:-${RCLONE_REMOTE:-}} jobs=${JOBS:-8}
for program in openssl zstd psql pg_restore "$([[ $remote ]] && echo rclone || echo aws)"; do
  type -P "$program" > /dev/null || die 2 "$program is not on the PATH."
done
[[ ! $public_key || $public_key == /* ]] || public_key=$PWD/$public_key
cd "$work"
shopt -s nullglob dotglob
left=(*)
[[ ${#left[@]} == 0 ]] || die 2 "The folder $work is not empty."
# What passed through the folder is data: leave none of it. (Empty files stay; there is no rm here.)
trap 'for left in *; do : > "$left"; done' EXIT

# Objects ---------------------------------------------------------------------------------------------------------------

get() { # get KEY FILE: an object of the store. The key was put together here, of parts whose form was checked.
  if [[ $remote ]]; then rclone --quiet cat "$remote:$bucket/$root$1" > "$2"
  else aws s3api get-object --bucket "$bucket" --key "$root$1" "$2" > /dev/null; fi
}

size_of() {
  local line
  while IFS= read -r line; do
    [[ $line != 'bytes written:'* ]] || printf '%s' "${line##* }"
  done < <(openssl enc -none -v -in "$1" -out /dev/null 2>&1)
}

hash_of() { # hash_of sha256|md5 FILE
  local line
  line=$(openssl dgst "-$1" -r "$2") && printf '%s' "${line%% *}"
}

unpack() { # unpack PACKED FILE SIZE SHA256: at most SIZE bytes are written (and the rest of a block of 1 KiB), then looked at
  (ulimit -c 0 -f $(($3 / 1024 + 1)) && exec zstd -d -q -f -o "$2" "$1") 2> /dev/null &&
    [[ $(size_of "$2") == "$3" && $(hash_of sha256 "$2") == "$4" ]]
}

feed() { # Reads "sha256 size", each with a zero byte behind it, until an empty one; writes the pieces' bytes, checked.
  local word
  while IFS= read -r -d '' word && [[ $word ]]; do
    [[ $word =~ ^([0-9a-f]{64})\ ([1-9][0-9]{0,7})$ ]] || { printf 'a piece has no proper name' > broken; return; }
    local sha256=${BASH_REMATCH[1]} size=${BASH_REMATCH[2]}
    get "objects/${sha256:0:2}/$sha256.zst" packed || { printf 'a piece could not be read' > broken; return; }
    unpack packed piece "$size" "$sha256" || { printf 'a piece is not what the manifest says' > broken; return; }
    openssl enc -none -in piece 2> /dev/null || return 0 # pg_restore had enough: it reads the head only for some sections
  done
}

# PostgreSQL ------------------------------------------------------------------------------------------------------------

export PGOPTIONS='-c search_path= -c row_security=off -c datestyle=ISO -c intervalstyle=postgres -c statement_timeout=0'

ask() { # ask FILE SQL: "doc" holds the lines of FILE, which is ours; every field that is written ends with a zero byte
  printf "%s\n" "CREATE TEMP TABLE doc (n bigserial, line text);" \
    "\\copy pg_temp.doc (line) FROM $1 WITH (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')" "$2" |
    PGCLIENTENCODING=UTF8 psql -X -q -A -t -0 -z -v ON_ERROR_STOP=1 -v VERBOSITY=terse
}

about() { # about SQL: of the manifest, "m" in the table of the same name
  ask manifest.json "CREATE TEMP TABLE m AS SELECT string_agg(line, E'\\n' ORDER BY n)::jsonb AS m FROM pg_temp.doc; $1"
}

one() { # one SQL: its only value
  local value
  IFS= read -r -d '' value < <(about "$1") || die 1 "The database cannot be reached, or it cannot read the manifest."
  printf '%s' "$value"
}

section() { # section OPTION...: pg_restore with the archive on its standard input
  : > broken
  local status=0
  set +o pipefail
  feed < archive | pg_restore --no-owner --dbname="$PGDATABASE" "$@" || status=$?
  set -o pipefail
  [[ ! -s broken ]] || die 5 "$(< broken). Drop the database $PGDATABASE: it is not whole."
  return "$status"
}

# 1. The manifest, and who says so --------------------------------------------------------------------------------------

get "catalog/$id.json" manifest.json || die 1 "There is no manifest of $id here, or it cannot be read."
if [[ $public_key ]]; then
  get "catalog/$id.json.sig" manifest.sig || die 5 "The backup $id is not signed."
  openssl pkeyutl -verify -pubin -inkey "$public_key" -rawin -in manifest.json -sigfile manifest.sig > /dev/null 2>&1 ||
    die 5 "The manifest of $id was not signed by this key: nothing of it was read. Find out who wrote it."
fi
[[ $(one "SELECT m->>'id' FROM m") == "$id" ]] || die 5 "The manifest that is stored as $id is another backup's."
[[ $(one "SELECT m->>'format' FROM m") == 1 ]] || die 1 "This script does not know the format of $id."
facts=$(one "SELECT concat_ws(', ', 'PostgreSQL ' || (m#>>'{database,server_version}'), 'encoding ' || (m#>>'{database,encoding}'),
  'LC_COLLATE ' || (m#>>'{database,collate}'), 'LC_CTYPE ' || (m#>>'{database,ctype}'), 'locale ' || (m#>>'{database,locale}'),
  (m#>>'{database,size}') || ' bytes', 'extensions ' || (m#>>'{database,extensions}'), (SELECT string_agg(format('%s documents of %s',
  p->>'count', p->>'label'), ', ') FROM jsonb_array_elements(m->'documents') AS p)) FROM m")
say "The backup $id is of ${facts//[^[:print:]]/?}."
[[ -z $look ]] || exit 0

# 2. The database -------------------------------------------------------------------------------------------------------

[[ $(one "SELECT count(*) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
  WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'") == 0 ]] ||
  die 2 "The database $PGDATABASE is not empty. Nothing was changed; make a new one."
about "SELECT format('%s %s', p.v->>'sha256', p.v->>'size') FROM m,
  jsonb_array_elements(m#>'{database,archive,pieces}') WITH ORDINALITY AS p(v, n) ORDER BY p.n; SELECT ''" > archive
about "SELECT word FROM (
    SELECT t.n, 0 AS r, 0 AS p, format('COPY %I.%I (%s) FROM STDIN', t.v->>'schema_name', t.v->>'table',
      (SELECT string_agg(format('%I', c.v), ', ' ORDER BY c.n) FROM jsonb_array_elements_text(t.v->'columns')
       WITH ORDINALITY AS c(v, n))) AS word FROM m, jsonb_array_elements(m#>'{database,tables}') WITH ORDINALITY AS t(v, n)
    UNION ALL SELECT t.n, r.n, p.n, format('%s %s', p.v->>'sha256', p.v->>'size')
    FROM m, jsonb_array_elements(m#>'{database,tables}') WITH ORDINALITY AS t(v, n),
      jsonb_array_elements(t.v->'ranges') WITH ORDINALITY AS r(v, n), jsonb_array_elements(r.v) WITH ORDINALITY AS p(v, n)
    UNION ALL SELECT t.n, 1 + jsonb_array_length(t.v->'ranges'), 0, ''
    FROM m, jsonb_array_elements(m#>'{database,tables}') WITH ORDINALITY AS t(v, n)
  ) AS words ORDER BY n, r, p" > tables
encoding=$(one "SELECT m#>>'{database,encoding}' FROM m")

say "Schema"
section --no-privileges --exit-on-error --section=pre-data || die 1 "pg_restore failed; drop the database $PGDATABASE."
say "Data"
section --no-privileges --exit-on-error --section=data || die 1 "pg_restore failed; drop the database $PGDATABASE."
while IFS= read -r -d '' copy <&3; do
  : > broken
  feed <&3 | PGCLIENTENCODING=$encoding psql -X -q -v ON_ERROR_STOP=1 -v VERBOSITY=terse -c "$copy" ||
    die 1 "A table could not be filled; drop the database $PGDATABASE."
  [[ ! -s broken ]] || die 5 "$(< broken). Drop the database $PGDATABASE: it is not whole."
done 3< tables
say "Indexes and keys"
section --no-privileges --exit-on-error --section=post-data || die 1 "pg_restore failed; drop the database $PGDATABASE."
feed < archive | pg_restore --list > contents
while IFS= read -r line; do
  [[ ! $line =~ ^[0-9]+\;\ [0-9]+\ [0-9]+\ (DEFAULT\ )?ACL\  ]] || printf '%s\n' "$line"
done < contents > grants
[[ ! -s grants ]] || section --use-list=grants ||
  say "Some grants (above) name roles that this server lacks, and were left out."
say "Counting rows"
while IFS= read -r -d '' query; do printf '%s\n' "$query"; done < <(about "SELECT format(
    'SELECT %L WHERE %L::int8 <> (SELECT pg_catalog.count(*) FROM %s %I.%I);', format('%s.%s', s, t), rows,
    CASE WHEN EXISTS (SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
      WHERE n.nspname = s AND c.relname = t AND c.relkind = 'p') THEN '' ELSE 'ONLY' END, s, t)
  FROM (SELECT r->>'schema_name' AS s, r->>'table' AS t, r->>'rows' AS rows
        FROM m, jsonb_array_elements(m#>'{database,rows}') AS r) AS rows") > counts
different=$(psql -X -q -A -t -v ON_ERROR_STOP=1 -v VERBOSITY=terse < counts) || die 1 "The rows could not be counted."
[[ ! $different ]] || die 5 "These tables have other counts than the manifest says: ${different//[^[:print:]]/ }."
say "The database is whole: every table has the rows that the manifest counts."

# 3. Documents ----------------------------------------------------------------------------------------------------------

copy_document() { # copy_document N OBJECT SIZE ETAG SHA256 KEY COPY: copy one, read back what arrived, compare
  local arrived=arrived-$1 request=request-$1
  [[ $2 =~ ^documents/[a-z0-9-]+/[0-9a-f]{2}/[0-9a-f]{64}$ ]] || return 1
  if [[ $remote ]]; then
    # rclone tidies paths: a key that would become another one, or lead out of the bucket, is none for it.
    [[ ! /$6/ =~ //|/\./|/\.\./|[[:cntrl:]] ]] || return 1
    rclone --quiet --metadata --ignore-times copyto "$remote:$bucket/$root$2" "$documents_remote:$to_bucket/$to_prefix$6" &&
      rclone --quiet cat "$documents_remote:$to_bucket/$to_prefix$6" > "$arrived" || return 1
  else
    # As a document of JSON: an argument that begins with file:// would be read from this machine.
    printf '%s' "$7" > "$request"
    aws s3api copy-object --cli-input-json "file://$request" > /dev/null || return 1
    [[ $3 != 0 ]] || return 0 # the name of a folder, mostly, which `aws s3 cp` would not read
    aws s3 cp --only-show-errors "s3://$to_bucket/$to_prefix$6" - > "$arrived" || return 1
  fi
  [[ $(size_of "$arrived") == "$3" ]] || return 1
  if [[ $5 ]]; then
    [[ $(hash_of sha256 "$arrived") == "$5" ]]
  elif [[ $remote && $4 =~ ^[0-9a-f]{32}$ ]]; then # aws was told to copy only what has the ETag
    [[ $(hash_of md5 "$arrived") == "$4" ]]
  fi
}

copy_documents() { # copy_documents N: every jobs-th document of the listing, the N-th first
  local number=0 object size etag sha256 key copy
  while IFS= read -r -d '' object && IFS= read -r -d '' size && IFS= read -r -d '' etag && IFS= read -r -d '' sha256 &&
    IFS= read -r -d '' key && IFS= read -r -d '' copy; do
    if ((number++ % jobs == $1)); then
      copy_document "$1" "$object" "$size" "$etag" "$sha256" "$key" "$copy" ||
        { say "not restored: $(printf %q "$key")"; printf x >> "failed-$1"; }
    fi
  done < documents
}

lost=''
for place in ${places[@]+"${places[@]}"}; do
  label=${place%%=*} to=${place#*=s3://}
  to_bucket=${to%%/*} to_prefix=${to#"$to_bucket"}
  to_prefix=${to_prefix#/} to_prefix=${to_prefix%/} to_prefix=${to_prefix:+$to_prefix/}
  IFS=' ' read -r sha256 size count < <(one "SELECT concat_ws(' ', p->>'listing_sha256', p->>'listing_size', p->>'count') || E'\n'
    FROM m, jsonb_array_elements(m->'documents') AS p WHERE p->>'label' = '$label'") ||
    die 2 "The backup has no documents of $label."
  get "backups/$id/documents-$label.jsonl.zst" packed || die 5 "The listing of $label is missing."
  unpack packed listing "$size" "$sha256" || die 5 "The listing of $label is not what the manifest says."
  ask listing "SELECT object, d->>'size', etag, d->>'sha256', d->>'key',
      jsonb_build_object('Bucket', '$to_bucket', 'Key', '$to_prefix' || (d->>'key'), 'CopySourceIfMatch', '\"' || etag || '\"',
        'CopySource', '$bucket/$root' || object)
    FROM (SELECT n, d, 'documents/$label/' || left(d->>'object', 2) || '/' || (d->>'object') AS object,
            coalesce(d->>'stored_etag', d->>'etag') AS etag
          FROM (SELECT n, line::jsonb AS d FROM pg_temp.doc) AS lines) AS entries ORDER BY n" > documents
  say "Copying $count documents of $label"
  workers=()
  for ((worker = 0; worker < jobs; worker++)); do copy_documents "$worker" & workers+=($!); done
  for worker in "${workers[@]}"; do wait "$worker"; done
  for file in failed-*; do lost=$lost$(< "$file"); : > "$file"; done
done
[[ ! $lost ]] || die 5 "${#lost} documents could not be restored, or are not what was stored (above)."
say "Done: $id is restored. Mark the places (fac-backup adopt) before fac-backup works on them again."
