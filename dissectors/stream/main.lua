
-- How streams come here. Wireshark asks a conversation's own dissector before the one of the port, and
-- goes on to that one, with all that it knows, when the first says "not mine". So `watch`, which sees
-- every frame when all others are done, makes `l45` the dissector of each TCP conversation at its SYN,
-- and `l45` refuses until there is a mark: plain streams are dissected as ever. Where `l45` was not asked
-- (the SYN is not in the capture; a message for which the port's dissector waits is not complete),
-- `watch` shows the frame.

local watch = Proto("l45.watch", "Layer 4.5 Customized Stream, all frames")

local PORTS_OF_TCP, SYN, FIN = 2, 0x02, 0x01

local tcp = {
  stream = Field.new("tcp.stream"), sequence = Field.new("tcp.seq_raw"), length = Field.new("tcp.len"),
  acknowledged = Field.new("tcp.ack_raw"), flags = Field.new("tcp.flags"), payload = Field.new("tcp.payload"),
}

-- An error of ICMP quotes a segment that is not there.
local icmp, icmpv6 = Field.new("icmp.type"), Field.new("icmpv6.type")

-- Directions of which the frame that is dissected now has been shown.
local shown = {}
-- By direction, what one can tell without TCP's fields: whether there was a mark.
local unseen = {}

function l45.init()
  directions, shown, unseen = {}, {}, {}
end

local function endpoints(pinfo)
  local source = tostring(pinfo.src) .. " " .. pinfo.src_port
  local destination = tostring(pinfo.dst) .. " " .. pinfo.dst_port
  return source .. " " .. destination, destination .. " " .. source
end

-- The segment in this frame, with its direction and payload. None where Wireshark gives no fields (it
-- does not always in a first pass), and where there is more than one segment: a tunnel.
local function segment_of(pinfo)
  local streams, flags = { tcp.stream() }, tcp.flags()
  if #streams ~= 1 or not flags or icmp() or icmpv6() then
    return nil
  end
  local payload, stream, there, back = tcp.payload(), streams[1].value, endpoints(pinfo)
  local syn, fin = bit.band(flags.value, SYN) > 0, bit.band(flags.value, FIN) > 0
  local range = payload and payload.range
  local bytes = range and range:raw() or ""
  if tcp.acknowledged() then
    direction_of(stream .. " " .. back).acknowledged = tcp.acknowledged().value
  end
  return {
    stream = stream, sequence = (tcp.sequence().value + (syn and 1 or 0)) % 4294967296, bytes = bytes,
    cut = math.max(0, tcp.length().value - #bytes), syn = syn, fin = fin,
  }, direction_of(stream .. " " .. there), range
end

-- Where in a buffer of TCP's a stream turns from plain to customized: the bytes before are held by TCP
-- for the port's dissector, which now gets them from us. None: the mark is not in this buffer.
local function plain_before(mark, bytes)
  local at = bytes:find(mark, 1, true)
  if at then
    return bytes:sub(1, at - 1)
  end
  for known = 1, MARK_SIZE - 1 do -- its begin was in a buffer before
    if bytes:sub(1, MARK_SIZE - known) == mark:sub(known + 1) then
      return ""
    end
  end
  return nil
end

-- Nothing but what could be the begin of a mark.
local function may_become_mark(stream, bytes)
  return #bytes < MARK_SIZE and is_mark(stream, bytes, 1) == nil
end

local function ask_for_more(tvb, pinfo)
  if pinfo.can_desegment == 0 then
    return 0
  end
  pinfo.desegment_offset, pinfo.desegment_len = 0, ONE_MORE_SEGMENT
  return tvb:len()
end

-- Without TCP's fields nothing can be shown, but the port's dissector is spared wire form.
local function refuse_or_keep(tvb, pinfo)
  local name = endpoints(pinfo)
  local bytes = tvb:raw()
  local stream = unseen[name] or new_stream()
  unseen[name] = stream
  local _, whole = find_mark(stream, bytes, 1)
  stream.ours = stream.ours or whole
  if stream.ours then
    return tvb:len()
  elseif may_become_mark(stream, bytes) then
    return ask_for_more(tvb, pinfo)
  end
  stream.fresh = false
  return 0
end

local function show_once(direction, record_here, range, pinfo, root)
  if not shown[direction] then
    shown[direction] = true
    show_record(direction, record_here, range, pinfo, root)
  end
end

-- A message of the plain part for which TCP waited, over the mark and beyond.
local function show_late(mark, tvb, pinfo, root)
  local at = tvb:raw():find(mark, 1, true)
  if at and at > 1 then
    dissect_next(tvb:range(0, at - 1):tvb(), pinfo, root, true)
  end
end

function l45.dissector(tvb, pinfo, root)
  local segment, direction, range = segment_of(pinfo)
  if not segment then
    return tcp.stream() and 0 or refuse_or_keep(tvb, pinfo)
  end
  local record_here, bytes = record(direction, pinfo.number, segment), tvb:raw()
  if not record_here then
    return may_become_mark(direction.stream, bytes) and ask_for_more(tvb, pinfo) or 0
  end
  local before = plain_before(record_here.mark, bytes)
  if record_here.turning and not before then
    return 0
  elseif record_here.turning and #before > 0 and not record_here.prefix then
    record_here.prefix = before
  end
  show_once(direction, record_here, range, pinfo, root)
  if not record_here.turning and #bytes > #segment.bytes then
    show_late(record_here.mark, tvb, pinfo, root)
  end
  return tvb:len()
end

-- Whether a frame that Wireshark gives no fields of begins a connection: TCP's ports, then its flags.
local function is_syn(tvb, pinfo)
  local bytes = tvb:raw()
  local ports = {}
  for position, port in ipairs({ pinfo.src_port, pinfo.dst_port }) do
    ports[position] = string.char(math.floor(port / 256), port % 256)
  end
  local flags = bytes:byte((bytes:find(table.concat(ports), 1, true) or #bytes) + 13)
  return pinfo.port_type == PORTS_OF_TCP and flags ~= nil and bit.band(flags, SYN) > 0
end

-- Before anybody else, or once there is a mark: who takes over a plain conversation keeps it.
local function take(direction, pinfo)
  if not direction.taken then
    direction.taken = true
    pinfo.conversation = l45
  end
end

function watch.dissector(tvb, pinfo, root)
  local segment, direction, range = segment_of(pinfo)
  local record_here = segment and record(direction, pinfo.number, segment)
  if record_here or segment and segment.syn and not pinfo.visited then
    take(direction, pinfo)
  elseif not tcp.stream() and not pinfo.visited and is_syn(tvb, pinfo) then
    pinfo.conversation = l45
  end
  if record_here then
    show_once(direction, record_here, range, pinfo, root)
  end
  shown = {}
end

register_postdissector(watch)
