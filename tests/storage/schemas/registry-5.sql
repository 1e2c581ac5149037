PRAGMA application_id = 1331057235;
PRAGMA user_version = 5;
BEGIN TRANSACTION;
CREATE TABLE imported (
             import TEXT NOT NULL REFERENCES imports (id) ON DELETE CASCADE,
             number INTEGER NOT NULL,
             outcome TEXT NOT NULL CHECK (outcome IN ('imported', 'skipped', 'failed')),
             name TEXT NOT NULL,
             messages INTEGER NOT NULL,
             room TEXT NOT NULL DEFAULT '',
             place TEXT NOT NULL DEFAULT '',
             reason TEXT NOT NULL DEFAULT '',
             PRIMARY KEY (import, number)) WITHOUT ROWID;
CREATE TABLE imports (
             id TEXT PRIMARY KEY,
             state TEXT NOT NULL CHECK (state IN ('waiting', 'running', 'done', 'cancelled', 'failed')),
             reason TEXT NOT NULL DEFAULT '',
             files TEXT NOT NULL,
             created_at INTEGER NOT NULL,
             ended_at INTEGER,
             size INTEGER NOT NULL DEFAULT 0,
             read INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE rooms (
             id TEXT PRIMARY KEY,
             name TEXT NOT NULL,
             created_at INTEGER NOT NULL,
             messages INTEGER NOT NULL DEFAULT 0,
             preview TEXT NOT NULL DEFAULT '',
             answering INTEGER NOT NULL DEFAULT 0,
             problem TEXT NOT NULL DEFAULT '',
             deleting INTEGER NOT NULL DEFAULT 0,
             rank INTEGER NOT NULL,
             active_at INTEGER NOT NULL,
             synced_at INTEGER NOT NULL, failed INTEGER NOT NULL DEFAULT 0, hidden INTEGER NOT NULL DEFAULT 0, forked_from TEXT NOT NULL DEFAULT '', forked_at INTEGER, open INTEGER NOT NULL DEFAULT 0, archived INTEGER NOT NULL DEFAULT 0, temporary INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
INSERT INTO "rooms" VALUES('000000000001','Küche 🍳 1',1790000000000,12,'And then?',1,'',0,3,1790000000020,1790000000030,0,0,'',NULL,1,0,0);
INSERT INTO "rooms" VALUES('000000000002','Küche 🍳 2',1790000000000,12,'And then?',1,'',0,5,1790000000021,1790000000031,0,2,'000000000001',12,0,0,0);
INSERT INTO "rooms" VALUES('000000000003','Küche 🍳 3',1790000000000,12,'And then?',1,'',0,4503599627370498,1790000000022,1790000000032,0,0,'',NULL,0,0,0);
INSERT INTO "rooms" VALUES('00000000000a','Broken',1790000000000,4,'Words',0,'room-00000000000a.sqlite is missing. Put back a copy from a backup.',0,4,1790000000023,1790000000033,0,0,'',NULL,0,0,0);
INSERT INTO "rooms" VALUES('00000000000b','Being deleted',1790000000000,2,'Words',0,'',1,6,1790000000024,1790000000034,0,0,'',NULL,0,0,0);
CREATE TABLE runs (one INTEGER PRIMARY KEY CHECK (one = 1), in_order INTEGER NOT NULL);
INSERT INTO "runs" VALUES(1,0);
CREATE UNIQUE INDEX rooms_by_rank ON rooms (rank);
CREATE INDEX listed ON rooms (rank) WHERE NOT deleting AND NOT archived AND NOT temporary;
CREATE INDEX archived ON rooms (rank % 4503599627370496) WHERE archived AND NOT temporary AND NOT deleting;
CREATE INDEX temporary ON rooms (id) WHERE temporary;
COMMIT;
