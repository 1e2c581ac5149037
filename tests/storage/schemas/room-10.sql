PRAGMA application_id = 1331057234;
PRAGMA user_version = 10;
BEGIN TRANSACTION;
CREATE TABLE files (
             sha256 TEXT PRIMARY KEY,
             media_type TEXT NOT NULL,
             width INTEGER NOT NULL,
             height INTEGER NOT NULL,
             created_at INTEGER NOT NULL,
             content BLOB NOT NULL);
INSERT INTO "files" VALUES('62c1a6d1df2eda0d70c4018946319f5935367b61066dd5daae95bef9a8fc78fc','image/gif',2,1,1790000000002,X'47494638396102000100800000FF00000000FF2C0000000002000100000202440A003B');
CREATE TABLE messages (
             number INTEGER PRIMARY KEY AUTOINCREMENT,
             role TEXT NOT NULL CHECK (role IN ('user', 'assistant')),
             state TEXT NOT NULL CHECK (state IN
               ('waiting', 'streaming', 'complete', 'stopped', 'failed', 'interrupted')),
             reason TEXT NOT NULL DEFAULT '',
             model TEXT NOT NULL DEFAULT '',
             key TEXT UNIQUE,
             created_at INTEGER NOT NULL,
             ended_at INTEGER, tokens_in INTEGER, tokens_out INTEGER, seconds REAL, speaking REAL, estimated INTEGER, left_out TEXT NOT NULL DEFAULT '', context_used INTEGER NOT NULL DEFAULT 0, context_limit INTEGER NOT NULL DEFAULT 0, continuable INTEGER NOT NULL DEFAULT 1, sources TEXT NOT NULL DEFAULT '', parent INTEGER, depth INTEGER NOT NULL DEFAULT 1, jump INTEGER, asked_model TEXT NOT NULL DEFAULT '', lane INTEGER, source TEXT);
INSERT INTO "messages" VALUES(1,'user','complete','','','key-3',1790000000001,NULL,NULL,NULL,NULL,NULL,NULL,'',0,0,1,'',NULL,1,NULL,'',NULL,NULL);
INSERT INTO "messages" VALUES(2,'assistant','complete','','stand-in',NULL,1790000000001,1790000000002,120,30,2.5,1.5,0,'temperature,tools',150,4096,1,'[["https://example.com/a", "A page"]]',1,2,1,'',NULL,NULL);
INSERT INTO "messages" VALUES(3,'user','complete','','',NULL,1790000000003,NULL,NULL,NULL,NULL,NULL,NULL,'',0,0,1,'',2,3,2,'',NULL,NULL);
INSERT INTO "messages" VALUES(4,'assistant','stopped','Stopped.','stand-in',NULL,1790000000003,1790000000004,9,3,0.5,0.25,1,'',0,0,1,'',3,4,1,'other-model',2,NULL);
INSERT INTO "messages" VALUES(6,'assistant','complete','','stand-in',NULL,1790000000005,1790000000005,NULL,NULL,NULL,NULL,NULL,'',0,0,1,'',3,4,1,'stand-in',1,NULL);
INSERT INTO "messages" VALUES(7,'user','complete','','',NULL,1790000000006,NULL,NULL,NULL,NULL,NULL,NULL,'',0,0,1,'',4,5,4,'',NULL,NULL);
INSERT INTO "messages" VALUES(8,'assistant','failed','The model server cannot be reached.','stand-in',NULL,1790000000006,1790000000007,NULL,NULL,NULL,NULL,NULL,'',0,0,1,'',7,6,7,'',NULL,NULL);
INSERT INTO "messages" VALUES(9,'user','complete','','',NULL,1790000000008,NULL,NULL,NULL,NULL,NULL,NULL,'',0,0,1,'',8,7,4,'',NULL,NULL);
INSERT INTO "messages" VALUES(10,'assistant','interrupted','The server went down.','stand-in',NULL,1790000000008,1790000000009,NULL,NULL,NULL,NULL,NULL,'',0,0,0,'',9,8,1,'',NULL,NULL);
INSERT INTO "messages" VALUES(11,'user','complete','','',NULL,1790000000010,NULL,NULL,NULL,NULL,NULL,NULL,'',0,0,1,'',10,9,10,'',NULL,NULL);
INSERT INTO "messages" VALUES(12,'assistant','streaming','','stand-in',NULL,1790000000010,NULL,NULL,NULL,NULL,NULL,NULL,'',0,0,1,'',11,10,11,'',NULL,NULL);
INSERT INTO "messages" VALUES(13,'user','complete','','','last',1790000000011,NULL,NULL,NULL,NULL,NULL,NULL,'',0,0,1,'',12,11,10,'',NULL,NULL);
INSERT INTO "messages" VALUES(14,'assistant','waiting','','',NULL,1790000000011,NULL,NULL,NULL,NULL,NULL,NULL,'',0,0,1,'',13,12,13,'',NULL,NULL);
CREATE TABLE "parts" (
             message INTEGER NOT NULL REFERENCES messages (number) ON DELETE CASCADE,
             position INTEGER NOT NULL,
             kind TEXT NOT NULL CHECK (kind IN ('text', 'reasoning', 'tool_call', 'file')),
             text TEXT NOT NULL DEFAULT '',
             call TEXT,
             file TEXT REFERENCES files (sha256), seconds REAL, name TEXT NOT NULL DEFAULT '',
             PRIMARY KEY (message, position)) WITHOUT ROWID;
INSERT INTO "parts" VALUES(1,0,'text','What time is it?

And ''what'' "day"?',NULL,NULL,NULL,'');
INSERT INTO "parts" VALUES(2,0,'reasoning','I had better look.',NULL,NULL,12.5,'');
INSERT INTO "parts" VALUES(2,1,'tool_call','2026-09-21T14:13:20+00:00','{"id": "call-1", "name": "get_current_time", "arguments": "{}", "state": "done"}',NULL,NULL,'');
INSERT INTO "parts" VALUES(2,2,'tool_call','A die has at least two sides.','{"id": "call-2", "name": "roll_dice", "arguments": "{\"sides\": 1}", "state": "failed"}',NULL,NULL,'');
INSERT INTO "parts" VALUES(2,3,'text','It is **14:13**.

```python
print(''😀'')
```',NULL,NULL,NULL,'');
INSERT INTO "parts" VALUES(2,4,'file','A ''dot''',NULL,'62c1a6d1df2eda0d70c4018946319f5935367b61066dd5daae95bef9a8fc78fc',NULL,'dot.gif');
INSERT INTO "parts" VALUES(3,0,'text','A long answer',NULL,NULL,NULL,'');
INSERT INTO "parts" VALUES(4,0,'text','Once upon a',NULL,NULL,NULL,'');
INSERT INTO "parts" VALUES(6,0,'text','Another answer',NULL,NULL,NULL,'');
INSERT INTO "parts" VALUES(7,0,'text','Are you there?',NULL,NULL,NULL,'');
INSERT INTO "parts" VALUES(9,0,'text','Still?',NULL,NULL,NULL,'');
INSERT INTO "parts" VALUES(10,0,'text','Half an ans',NULL,NULL,NULL,'');
INSERT INTO "parts" VALUES(11,0,'text','Roll',NULL,NULL,NULL,'');
INSERT INTO "parts" VALUES(12,0,'text','I roll.',NULL,NULL,NULL,'');
INSERT INTO "parts" VALUES(12,1,'tool_call','','{"id": "call-3", "name": "roll_dice", "arguments": "{\"sides\": 6}", "state": "running"}',NULL,NULL,'');
INSERT INTO "parts" VALUES(13,0,'text','And then?',NULL,NULL,NULL,'');
CREATE TABLE room (
             one INTEGER PRIMARY KEY CHECK (one = 1),
             name TEXT NOT NULL,
             named_by TEXT NOT NULL CHECK (named_by IN ('nobody', 'first words', 'person')),
             created_at INTEGER NOT NULL,
             model TEXT NOT NULL DEFAULT '', system_prompt TEXT NOT NULL DEFAULT '', temperature REAL, reads_from INTEGER NOT NULL DEFAULT 0, pinned INTEGER NOT NULL DEFAULT 0, head INTEGER, hidden INTEGER NOT NULL DEFAULT 0, forked_from TEXT NOT NULL DEFAULT '', forked_at INTEGER, source TEXT NOT NULL DEFAULT '', archived INTEGER NOT NULL DEFAULT 0, temporary INTEGER NOT NULL DEFAULT 0);
INSERT INTO "room" VALUES(1,'Küche 🍳 10','person',1790000000000,'other-model','Answer in one sentence.',0.5,3,1,14,1,'000000000001',12,'',0,0);
CREATE TABLE shares (
             number INTEGER PRIMARY KEY AUTOINCREMENT,
             secret TEXT NOT NULL UNIQUE,
             live INTEGER NOT NULL DEFAULT 0,
             created_at INTEGER NOT NULL,
             expires_at INTEGER,
             visited_at INTEGER,
             page BLOB);
CREATE INDEX unfinished ON messages (number) WHERE state IN ('waiting', 'streaming');
CREATE INDEX shown_files ON parts (file) WHERE file IS NOT NULL;
CREATE TRIGGER unshown AFTER DELETE ON parts WHEN OLD.file IS NOT NULL BEGIN
             DELETE FROM files WHERE sha256 = OLD.file AND NOT EXISTS (SELECT 1 FROM parts WHERE file = OLD.file);
           END;
CREATE INDEX children ON messages (parent);
CREATE UNIQUE INDEX sources ON messages (source) WHERE source IS NOT NULL;
CREATE VIEW transcript (time, who, text, number) AS
             WITH RECURSIVE path (number, parent) AS (
               SELECT number, parent FROM messages WHERE number = (SELECT head FROM room)
               UNION ALL
               SELECT m.number, m.parent FROM path JOIN messages m ON m.number = path.parent AND m.number < path.number)
             SELECT strftime('%Y-%m-%d %H:%M:%S', created_at / 1000, 'unixepoch'),
               CASE WHEN role = 'user' THEN 'You' WHEN model != '' THEN model ELSE 'Assistant' END,
               (SELECT group_concat(text, char(10) || char(10)) FROM
                 (SELECT text FROM parts WHERE message = m.number AND kind = 'text' ORDER BY position)),
               m.number
             FROM path JOIN messages m USING (number) ORDER BY m.number;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('messages',14);
COMMIT;
