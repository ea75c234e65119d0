
-- The application's bytes, as one stream, to the dissector that the port has. What that one asks for in
-- order to see a message whole is held here, as Wireshark's TCP does for plain streams.

local ONE_MORE_SEGMENT, UNTIL_FIN = 0x0fffffff, 0x0ffffffe -- what a dissector asks for instead of a number
local MAX_HELD = 4194304

local tcp_ports = DissectorTable.get("tcp.port")
local data = Dissector.get("data")

local http = tostring(Dissector.get("http"))

-- Dissectors that read what TCP alone hands them, and crash Wireshark 4.0 where it is not there.
local needs_tcp = {}
for _, port in ipairs({ 3567, 8567 }) do
  needs_tcp[tostring(tcp_ports:get_dissector(port))] = true
end

-- As Wireshark's TCP chooses: the lower port first.
local function next_dissector(pinfo)
  local low, high = math.min(pinfo.src_port, pinfo.dst_port), math.max(pinfo.src_port, pinfo.dst_port)
  local dissector = tcp_ports:get_dissector(low) or tcp_ports:get_dissector(high)
  return dissector and not needs_tcp[tostring(dissector)] and dissector or data
end

-- Returns from which byte on the dissector wants how many more; nil where it is content. `ends`: there
-- are no more. Only HTTP is told so and shows what it has: others might raise an error that wslua 4.0 does
-- not catch (FragmentBoundsError), which leaves Lua's stack in disorder.
local function dissect_next(tvb, pinfo, root, ends)
  local dissector = next_dissector(pinfo)
  local may_ask = not (ends and tostring(dissector) == http)
  pinfo.can_desegment, pinfo.desegment_len, pinfo.desegment_offset = may_ask and 2 or 0, 0, 0
  local ok, taken = pcall(dissector.call, dissector, tvb, pinfo, root)
  local from, more = pinfo.desegment_offset, pinfo.desegment_len
  pinfo.can_desegment, pinfo.desegment_len, pinfo.desegment_offset = 0, 0, 0
  local asks = may_ask and more > 0 and from < tvb:len()
  if asks and not ends then
    return from, more == ONE_MORE_SEGMENT and 1 or more == UNTIL_FIN and math.huge or more
  elseif asks then
    data:call(tvb:range(from):tvb(), pinfo, root)
  elseif ok and taken == 0 then
    data:call(tvb, pinfo, root) -- it was refused
  end
end

-- Bytes of the application that follow one another.
local function new_run()
  return { size = 0, parts = {} }
end

local function extend(run, bytes)
  run.size = run.size + #bytes
  table.insert(run.parts, bytes)
end

local function bytes_of(run)
  return table.concat(run.parts)
end

-- A buffer of what was held before and the run, given to the dissector.
local function dissect_run(run, call, pinfo, root)
  local bytes = ByteArray.new(call.held .. bytes_of(run), true)
  return dissect_next(bytes:tvb("Layer 4.5 application data"), pinfo, root, call.ends)
end

local function release(content)
  local held = table.concat(content.held)
  content.held, content.size, content.want = {}, 0, 0
  return held
end

local function keep(content, bytes, more)
  table.insert(content.held, bytes)
  content.size = content.size + #bytes
  content.want = more and content.size + more or content.want
end

-- Hands a run over, the first time that it is seen. Returns what to do when the frame is shown again:
-- false for nothing, since the dissector waits for more. `ends`: no more will come.
local function offer(direction, run, ends, pinfo, root)
  local content = direction.content
  local size = content.size + run.size
  if size == 0 or run.size == 0 and not ends then
    return false
  elseif not ends and size < content.want and size < MAX_HELD then
    keep(content, bytes_of(run))
    return false
  end
  local call = { held = release(content), ends = ends or size >= MAX_HELD or direction.kept > MAX_KEPT }
  direction.kept = direction.kept + #call.held
  local from, more = dissect_run(run, call, pinfo, root)
  if not from then
    return call
  elseif more ~= math.huge and size - from + more > MAX_HELD then
    call.ends = true
    dissect_run(run, call, pinfo, root)
    return call
  end
  keep(content, (call.held .. bytes_of(run)):sub(from + 1), more)
  return from > 0 and call
end
