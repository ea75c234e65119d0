-- Generated dissectors run in Wireshark 4.0's Lua 5.2; these are its globals that they read.
std = "lua52"
max_line_length = false -- labels and meanings come from manifests
read_globals = {
  "base", "bit", "ByteArray", "Dissector", "DissectorTable", "ENC_UTF_8", "expert", "Field", "ftypes",
  "Pref", "Proto", "ProtoExpert", "ProtoField", "register_postdissector", "UInt64",
}
