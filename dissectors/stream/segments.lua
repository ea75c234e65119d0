
-- One direction of a connection: its segments in order, and a record of each frame of the capture that
-- has bytes of a customized stream, so that the frame looks the same however often and in whatever
-- order Wireshark dissects it. No call of Wireshark.
--
-- Wireshark hands over segments as they were captured. What comes early waits here; what the peer
-- acknowledged without its being in the capture will not come any more.

local MAX_WAITING, MAX_WAITING_BYTES = 256, 1048576
local MAX_WAITING_PLAIN = 16 -- of a stream that may be customized one day
-- Bytes of a direction that are kept in order to show frames again: behind them, nothing waits.
local MAX_KEPT = 16777216

local directions = {}

local function direction_of(name)
  directions[name] = directions[name] or {
    stream = new_stream(), waiting = {}, waiting_bytes = 0, kept = 0, records = {}, last = 0,
    content = { held = {}, size = 0, want = 0 },
  }
  return directions[name]
end

-- How far one sequence number is ahead of another; they are modulo 2^32.
local function distance(one, other)
  return (one - other + 2147483648) % 4294967296 - 2147483648
end

local function hold(direction, segment)
  table.insert(direction.waiting, segment)
  direction.waiting_bytes = direction.waiting_bytes + #segment.bytes
end

-- The waiting segment that comes first.
local function earliest(direction)
  local best
  for position, segment in ipairs(direction.waiting) do
    if not best or distance(segment.sequence, direction.waiting[best].sequence) < 0 then
      best = position
    end
  end
  return best, direction.waiting[best]
end

local function is_lost(direction)
  return direction.acknowledged and distance(direction.acknowledged, direction.next) > 0
    or #direction.waiting > (direction.stream.ours and MAX_WAITING or MAX_WAITING_PLAIN)
    or direction.waiting_bytes > MAX_WAITING_BYTES
    or direction.kept > MAX_KEPT
end

-- What of a segment is new; its begin may have been there before.
local function add_new_bytes(direction, pieces, segment)
  local known = distance(direction.next, segment.sequence)
  if known >= #segment.bytes + segment.cut then
    return
  end
  direction.next = (segment.sequence + #segment.bytes + segment.cut) % 4294967296
  if known < #segment.bytes then
    local bytes = segment.bytes:sub(known + 1)
    table.insert(pieces, segment.own and { own = known, bytes = bytes } or { bytes = bytes })
    direction.kept = direction.kept + (segment.own and 0 or #bytes)
  end
  if segment.cut > 0 then
    table.insert(pieces, { gap = segment.cut })
  end
end

-- The pieces of the stream that can be read now: bytes of this segment (`own`) or of one that waited,
-- and gaps.
local function next_pieces(direction)
  local pieces = {}
  while #direction.waiting > 0 do
    local position, segment = earliest(direction)
    local missing = distance(segment.sequence, direction.next)
    if missing > 0 and not is_lost(direction) then
      break
    elseif missing > 0 then
      table.insert(pieces, { gap = missing })
      direction.next = segment.sequence
    end
    table.remove(direction.waiting, position)
    direction.waiting_bytes = direction.waiting_bytes - #segment.bytes
    add_new_bytes(direction, pieces, segment)
  end
  for _, segment in ipairs(direction.waiting) do
    segment.own = nil -- when its turn comes, another frame is dissected
  end
  return pieces
end

local function read(stream, pieces)
  for _, piece in ipairs(pieces) do
    if piece.gap then
      skip(stream, piece.gap)
    else
      parse(stream, stream.pending .. piece.bytes)
    end
  end
end

local function record_of(direction, segment, before, pieces, ends)
  for _, piece in ipairs(pieces) do
    piece.bytes = not piece.own and piece.bytes or nil -- one's own are in the frame
  end
  return {
    before = before, pieces = pieces, ends = ends,
    turning = not before.ours, mark = direction.stream.mark,
    waits = #segment.bytes > 0 and not segment.own,
  }
end

-- What to show of a segment; nil while its direction is plain. `segment` has the `sequence` of its first
-- byte, its captured `bytes`, how many the capture `cut`, and the flags `syn` and `fin`.
local function record(direction, frame, segment)
  if frame <= direction.last then
    return direction.records[frame]
  end
  direction.last = frame
  if segment.syn then
    direction.next = direction.next or segment.sequence
  end
  direction.next = direction.next or segment.sequence
  if segment.fin then
    direction.fin = (segment.sequence + #segment.bytes + segment.cut) % 4294967296
  end
  segment.own = true
  if #segment.bytes + segment.cut > 0 then
    hold(direction, segment)
  end
  local before, pieces = copy(direction.stream), next_pieces(direction)
  read(direction.stream, pieces)
  local ends = direction.fin == direction.next and not direction.ended
  direction.ended = direction.ended or ends
  local unfinished = ends and (direction.content.size > 0 or direction.stream.pending ~= "" or ends_inside(direction.stream))
  if direction.stream.ours and (#segment.bytes > 0 or #pieces > 0 or unfinished) then
    direction.records[frame] = record_of(direction, segment, before, pieces, ends)
  end
  return direction.records[frame]
end
