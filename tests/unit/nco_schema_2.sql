PRAGMA user_version = 2;
BEGIN TRANSACTION;
CREATE TABLE artifact (
	digest VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	version VARCHAR NOT NULL, 
	target VARCHAR(4) NOT NULL, 
	kernel VARCHAR, 
	PRIMARY KEY (digest)
);
INSERT INTO "artifact" VALUES('abababababababababababababababababababababababababababababababab','idle','1','bpf',NULL);
CREATE TABLE build (
	"key" VARCHAR NOT NULL, 
	digest VARCHAR NOT NULL, 
	PRIMARY KEY ("key"), 
	FOREIGN KEY(digest) REFERENCES artifact (digest)
);
CREATE TABLE customization (
	id VARCHAR NOT NULL, 
	intent VARCHAR NOT NULL, 
	position INTEGER NOT NULL, 
	host VARCHAR NOT NULL, 
	side VARCHAR(6) NOT NULL, 
	module VARCHAR NOT NULL, 
	target VARCHAR(4) NOT NULL, 
	kernel VARCHAR, 
	"match" JSON NOT NULL, 
	priority INTEGER NOT NULL, 
	parameters BLOB NOT NULL, 
	receives BOOLEAN NOT NULL, 
	sends BOOLEAN NOT NULL, 
	epoch INTEGER NOT NULL, 
	token BLOB NOT NULL, 
	"key" BLOB NOT NULL, 
	digest VARCHAR, 
	PRIMARY KEY (id), 
	FOREIGN KEY(intent) REFERENCES intent (name), 
	FOREIGN KEY(host) REFERENCES host (name), 
	FOREIGN KEY(digest) REFERENCES artifact (digest)
);
INSERT INTO "customization" VALUES('930b7dab7ee45995ae4238f3d53fc95d','up',0,'dns','server','idle','bpf',NULL,'{"transport": "udp", "process": "dnsmasq", "local_port": 53}',50,X'',1,0,0,X'',X'6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B','abababababababababababababababababababababababababababababababab');
INSERT INTO "customization" VALUES('12aabe7c57215558bdf239db4dbf41be','up',1,'h1','client','idle','bpf',NULL,'{"transport": "udp", "process": "dig", "remote": "10.10.0.3/32", "remote_port": 53}',50,X'',0,1,0,X'',X'6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B','abababababababababababababababababababababababababababababababab');
INSERT INTO "customization" VALUES('b5e77dec496e544092edaa026bc62198','down',0,'dns','server','idle','bpf',NULL,'{"transport": "udp", "process": "dnsmasq", "local_port": 54}',51,X'',1,0,0,X'',X'6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B','abababababababababababababababababababababababababababababababab');
INSERT INTO "customization" VALUES('1c51d94424d053fd80ab4211d2378f5b','down',1,'h1','client','idle','bpf',NULL,'{"transport": "udp", "process": "dig", "remote": "10.10.0.3/32", "remote_port": 54}',51,X'',0,1,0,X'',X'6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B','abababababababababababababababababababababababababababababababab');
INSERT INTO "customization" VALUES('91b3ba2585e25ac696c6978ff58b17af','failed',0,'dns','server','idle','bpf',NULL,'{"transport": "udp", "process": "dnsmasq", "local_port": 55}',52,X'',1,0,0,X'',X'6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B','abababababababababababababababababababababababababababababababab');
INSERT INTO "customization" VALUES('f22ff68908185e2ba8239401d5806098','failed',1,'h1','client','idle','bpf',NULL,'{"transport": "udp", "process": "dig", "remote": "10.10.0.3/32", "remote_port": 55}',52,X'',0,1,0,X'',X'6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B','abababababababababababababababababababababababababababababababab');
INSERT INTO "customization" VALUES('31b2f88343155f989c6074d071cb56f1','gone',0,'dns','server','idle','bpf',NULL,'{"transport": "udp", "process": "dnsmasq", "local_port": 56}',53,X'',1,0,0,X'',X'6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B','abababababababababababababababababababababababababababababababab');
INSERT INTO "customization" VALUES('292a3d22ea555877878623ff11a858aa','gone',1,'h1','client','idle','bpf',NULL,'{"transport": "udp", "process": "dig", "remote": "10.10.0.3/32", "remote_port": 56}',53,X'',0,1,0,X'',X'6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B6B','abababababababababababababababababababababababababababababababab');
CREATE TABLE epoch (
	module VARCHAR NOT NULL, 
	last INTEGER NOT NULL, 
	PRIMARY KEY (module)
);
CREATE TABLE host (
	name VARCHAR NOT NULL, 
	addresses JSON NOT NULL, 
	kernel VARCHAR NOT NULL, 
	boot_id VARCHAR NOT NULL, 
	tap VARCHAR, 
	tap_error VARCHAR, 
	targets JSON NOT NULL, 
	generation INTEGER NOT NULL, 
	desired VARCHAR NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "host" VALUES('h1','["10.10.0.1"]','6.1.0','b','bpf',NULL,'["bpf"]',3,'x');
INSERT INTO "host" VALUES('dns','["10.10.0.3"]','6.12.0','b','bpf',NULL,'["bpf"]',3,'x');
CREATE TABLE intent (
	name VARCHAR NOT NULL, 
	uid VARCHAR NOT NULL, 
	spec JSON NOT NULL, 
	mirrors_spec JSON NOT NULL, 
	phase VARCHAR(9) NOT NULL, 
	error VARCHAR, 
	PRIMARY KEY (name), 
	UNIQUE (uid)
);
INSERT INTO "intent" VALUES('up','00000000000000000000000000000001','{"name": "up", "module": "idle", "clients": [{"host": "h1", "process": "dig", "thread": null, "executable": null, "uid": null}], "servers": [{"host": "dns", "process": "dnsmasq", "executable": null, "uid": null, "address": null}], "port": 53, "middlebox": {"host": "h1", "mode": "mirror", "address": null}, "parameters": {}, "priority": 50}','[{"id": "up", "transport": "udp", "server": "10.10.0.3", "port": 53, "middlebox": "10.10.0.1"}]','active',NULL);
INSERT INTO "intent" VALUES('down','00000000000000000000000000000002','{"name": "down", "module": "idle", "clients": [{"host": "h1", "process": "dig", "thread": null, "executable": null, "uid": null}], "servers": [{"host": "dns", "process": "dnsmasq", "executable": null, "uid": null, "address": null}], "port": 54, "middlebox": {"host": "h1", "mode": "mirror", "address": null}, "parameters": {}, "priority": 51}','[{"id": "down", "transport": "udp", "server": "10.10.0.3", "port": 54, "middlebox": "10.10.0.1"}]','stop_send',NULL);
INSERT INTO "intent" VALUES('failed','00000000000000000000000000000003','{"name": "failed", "module": "idle", "clients": [{"host": "h1", "process": "dig", "thread": null, "executable": null, "uid": null}], "servers": [{"host": "dns", "process": "dnsmasq", "executable": null, "uid": null, "address": null}], "port": 55, "middlebox": {"host": "h1", "mode": "mirror", "address": null}, "parameters": {}, "priority": 52}','[{"id": "failed", "transport": "udp", "server": "10.10.0.3", "port": 55, "middlebox": "10.10.0.1"}]','failed','no');
INSERT INTO "intent" VALUES('gone','00000000000000000000000000000004','{"name": "gone", "module": "idle", "clients": [{"host": "h1", "process": "dig", "thread": null, "executable": null, "uid": null}], "servers": [{"host": "dns", "process": "dnsmasq", "executable": null, "uid": null, "address": null}], "port": 56, "middlebox": {"host": "h1", "mode": "mirror", "address": null}, "parameters": {}, "priority": 53}','[{"id": "gone", "transport": "udp", "server": "10.10.0.3", "port": 56, "middlebox": "10.10.0.1"}]','gone',NULL);
CREATE TABLE steering (
	id INTEGER NOT NULL, 
	generation INTEGER NOT NULL, 
	desired VARCHAR NOT NULL, 
	PRIMARY KEY (id)
);
CREATE INDEX ix_customization_host ON customization (host);
CREATE INDEX ix_customization_intent ON customization (intent);
COMMIT;
