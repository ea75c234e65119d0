
-- The application's bytes, as one stream, to the dissector that the port has. What that one asks for in
-- order to see a message whole is held here, as Wireshark's TCP does for plain streams.

local ONE_MORE_SEGMENT, UNTIL_FIN = 0x0fffffff, 0x0ffffffe -- what a dissector asks for instead of a number
local MAX_HELD = 4194304

local tcp_ports = DissectorTable.get("tcp.port")
local data = Dissector.get("data")

-- As Wireshark's TCP chooses: the lower port first.
local function next_dissector(pinfo)
  local low, high = math.min(pinfo.src_port, pinfo.dst_port), math.max(pinfo.src_port, pinfo.dst_port)
  return tcp_ports:get_dissector(low) or tcp_ports:get_dissector(high) or data
end

-- Returns from which byte on the dissector wants how many more; nil where it is content.
local function dissect_next(tvb, pinfo, root, may_ask)
  pinfo.can_desegment, pinfo.desegment_len, pinfo.desegment_offset = may_ask and 2 or 0, 0, 0
  local dissector = next_dissector(pinfo)
  local ok, taken = pcall(dissector.call, dissector, tvb, pinfo, root)
  if ok and taken == 0 and pinfo.desegment_len == 0 then
    data:call(tvb, pinfo, root) -- it was refused
  end
  local from, more = pinfo.desegment_offset, pinfo.desegment_len
  pinfo.can_desegment, pinfo.desegment_len, pinfo.desegment_offset = 0, 0, 0
  if may_ask and more > 0 and from <= tvb:len() then
    return from, more == ONE_MORE_SEGMENT and 1 or more == UNTIL_FIN and math.huge or more
  end
end

-- Bytes of the application that follow one another; `range` where they do so in one buffer.
local function new_run()
  return { size = 0, parts = {} }
end

local function extend(run, range)
  run.range = run.size == 0 and range or nil
  run.size = run.size + range:len()
  table.insert(run.parts, range:raw())
end

local function bytes_of(run)
  return table.concat(run.parts)
end

-- A buffer of what was held before and the run, given to the dissector.
local function dissect_run(run, call, pinfo, root)
  local tvb
  if call.held == "" and run.range then
    tvb = run.range:tvb()
  else
    tvb = ByteArray.new(call.held .. bytes_of(run), true):tvb("Layer 4.5 application data")
  end
  return dissect_next(tvb, pinfo, root, call.may_ask)
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
  local may_ask = not ends and size < MAX_HELD and direction.kept < MAX_KEPT
  local call = { held = release(content), may_ask = may_ask }
  direction.kept = direction.kept + #call.held
  local from, more = dissect_run(run, call, pinfo, root)
  if not from then
    return call
  elseif more ~= math.huge and size - from + more > MAX_HELD then
    call.may_ask = false
    dissect_run(run, call, pinfo, root)
    return call
  end
  keep(content, (call.held .. bytes_of(run)):sub(from + 1), more)
  return from > 0 and call
end
