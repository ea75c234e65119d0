-- Marks and frames of one direction (docs/wire-format.md), from bytes to items. No call of Wireshark.
--
-- A direction is in one of four phases: `plain`, `frames` (a header is next), `content` (of a frame,
-- `left` bytes of it) and `lost` (the format is broken, or bytes are missing). A live mark leads out of
-- `plain` and `lost`. An analyst has no token: a mark is told by its constant bytes and its signature.

local MAGIC, MARK_SIZE, HEADER_SIZE, MAX_WHOLE = "\245L45\1", 20, 4, 17920
local NEW, LIVE = "N", "L"
local DATA, UNTOUCHED, SWITCH, END = 0x44, 0x50, 0x53, 0x45

-- A module is listed under its signature, by what of its frames it dissects.
local heads = DissectorTable.get("l45.head")
local wholes = DissectorTable.get("l45.whole")

local function is_known(signature)
  return (heads:get_dissector(signature) or wholes:get_dissector(signature)) ~= nil
end

local function number(bytes, from, size)
  local value = 0
  for position = from, from + size - 1 do
    value = value * 256 + bytes:byte(position)
  end
  return value
end

local function new_stream()
  -- `fresh`: nothing has been read; `ours`: there was a mark, the first one is `mark`; `pending`: the begin of
  -- an item.
  return { phase = "plain", fresh = true, ours = false, pending = "", left = 0 }
end

local function copy(stream)
  local result = {}
  for key, value in pairs(stream) do
    result[key] = value
  end
  return result
end

-- Whether a mark stands at `at`: true, false, or nil where too few bytes are there to say.
local function is_mark(stream, bytes, at)
  local candidate = bytes:sub(at, at + MARK_SIZE - 1)
  local kind, signature = candidate:sub(6, 6), candidate:sub(17)
  if candidate:sub(1, #MAGIC) ~= MAGIC:sub(1, #candidate) then
    return false
  elseif kind == NEW and not (stream.fresh and at == 1) or not (NEW .. LIVE):find(kind, 1, true) then
    return false
  elseif #candidate < MARK_SIZE then
    return nil
  elseif kind == LIVE then
    return is_known(signature)
  end
  return signature:find("^[!-~]*$") ~= nil
end

-- Where the first mark from `at` on is, or might begin, and whether it is whole.
local function find_mark(stream, bytes, at)
  while true do
    at = bytes:find(MAGIC:sub(1, 1), at, true)
    local found = at and is_mark(stream, bytes, at)
    if not at or found ~= false then
      return at, found
    end
    at = at + 1
  end
end

local function add(items, item)
  items[#items + 1] = item
  return item.from + item.size
end

local function begin(stream, bytes, at, items)
  stream.phase, stream.ours, stream.fresh = "frames", true, false
  stream.mark = stream.mark or bytes:sub(at, at + MARK_SIZE - 1)
  stream.epoch, stream.signature = number(bytes, at + 14, 2), bytes:sub(at + 16, at + 19)
  return add(items, {
    kind = "mark", from = at, size = MARK_SIZE, live = bytes:sub(at + 5, at + 5) == LIVE,
    epoch = stream.epoch, signature = stream.signature,
    fault = not is_known(stream.signature) and "signature" or nil,
  })
end

-- The phases' steps return where the next step begins, or nil where they wait for more bytes.
local steps = {}

function steps.plain(stream, bytes, at, items)
  local found, whole = find_mark(stream, bytes, at)
  local stop = found or #bytes + 1
  if stop > at then
    add(items, { kind = stream.phase, from = at, size = stop - at })
    stream.fresh = false
  end
  if whole then
    return begin(stream, bytes, found, items)
  end
  return nil, stop
end

steps.lost = steps.plain

-- What is wrong with a header, as far as the format goes.
local function header_fault(stream, kind, head, length)
  if kind == DATA then
    local whole = wholes:get_dissector(stream.signature) ~= nil
    return head > length and "head" or whole and (head > 0 and "head" or length > MAX_WHOLE and "length")
  elseif kind == UNTOUCHED then
    return head > 0 and "head" or length == 0 and "length"
  elseif kind == SWITCH or kind == END then
    return head > 0 and "head" or length ~= (kind == SWITCH and 6 or 0) and "length"
  end
  return "type"
end

local function enter(stream, item, bytes)
  if item.type == SWITCH then
    stream.epoch, stream.signature = number(bytes, item.from + 4, 2), bytes:sub(item.from + 6, item.from + 9)
    item.epoch, item.signature = stream.epoch, stream.signature
    item.warning = not is_known(stream.signature) and "signature" or nil
  elseif item.type == END then
    stream.phase, stream.epoch, stream.signature = "plain", nil, nil
  else
    stream.left = item.length - item.head
    stream.phase = stream.left > 0 and "content" or "frames"
    -- Without a head, only the module's own dissector could say that its content is the application's.
    stream.clear = item.type == UNTOUCHED or item.head > 0 or heads:get_dissector(stream.signature) ~= nil
  end
end

function steps.frames(stream, bytes, at, items)
  if #bytes < at + HEADER_SIZE - 1 then
    return nil, at
  end
  local kind, head, length = bytes:byte(at), bytes:byte(at + 1), number(bytes, at + 2, 2)
  local item = {
    kind = "frame", from = at, size = HEADER_SIZE, type = kind, head = head, length = length,
    epoch = stream.epoch, signature = stream.signature,
    fault = header_fault(stream, kind, head, length) or nil,
  }
  if item.fault then
    stream.phase = "lost"
    return add(items, item)
  end
  item.size = HEADER_SIZE + (kind == SWITCH and length or head)
  if #bytes < at + item.size - 1 then
    return nil, at
  end
  enter(stream, item, bytes)
  return add(items, item)
end

function steps.content(stream, bytes, at, items)
  local size = math.min(stream.left, #bytes - at + 1)
  stream.left = stream.left - size
  stream.phase = stream.left > 0 and "content" or "frames"
  return add(items, { kind = stream.clear and "application" or "opaque", from = at, size = size,
    epoch = stream.epoch, signature = stream.signature, left = stream.left })
end

-- The items that `bytes`, which begin with those pending, make whole; their `from` counts from 1.
local function parse(stream, bytes)
  local items, at, wait = {}, 1, nil
  while at and at <= #bytes do
    at, wait = steps[stream.phase](stream, bytes, at, items)
  end
  stream.pending = at and "" or bytes:sub(wait)
  return items
end

-- Bytes that are not in the capture; inside a frame's content the format goes on behind them.
local function skip(stream, missing)
  stream.pending, stream.fresh = "", false
  if stream.phase == "content" and stream.left >= missing then
    stream.left = stream.left - missing
    stream.phase = stream.left > 0 and "content" or "frames"
  elseif stream.phase ~= "plain" then
    stream.phase = "lost"
  end
end

local function ends_inside(stream)
  return stream.phase == "content" or stream.phase == "frames" and stream.pending ~= ""
end
