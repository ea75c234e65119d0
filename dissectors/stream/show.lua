
-- What an analyst sees of a frame of the capture.

local l45 = Proto("l45", "Layer 4.5 Customized Stream")

local TYPES = { [DATA] = "Data", [UNTOUCHED] = "Untouched", [SWITCH] = "Switch", [END] = "End" }
local KINDS = { [0x4c] = "live stream", [0x4e] = "new stream" }

local fields = {
  mark = ProtoField.none("l45.mark", "Start mark"),
  magic = ProtoField.bytes("l45.mark.magic", "Magic"),
  version = ProtoField.uint8("l45.mark.version", "Version"),
  kind = ProtoField.uint8("l45.mark.kind", "Kind", base.HEX, KINDS),
  token = ProtoField.bytes("l45.mark.token", "Token"),
  frame = ProtoField.none("l45.frame", "Frame"),
  type = ProtoField.uint8("l45.frame.type", "Type", base.HEX, TYPES),
  head = ProtoField.uint8("l45.frame.head", "Head"),
  length = ProtoField.uint16("l45.frame.length", "Length"),
  epoch = ProtoField.uint16("l45.epoch", "Epoch"),
  signature = ProtoField.string("l45.signature", "Signature"),
  module_head = ProtoField.bytes("l45.head", "Head of a module without dissector"),
  application = ProtoField.bytes("l45.application", "Application's bytes"),
  opaque = ProtoField.bytes("l45.opaque", "Transformed bytes"),
  plain = ProtoField.bytes("l45.plain", "Plain bytes"),
  lost = ProtoField.bytes("l45.lost", "Bytes that cannot be read"),
}
for _, field in pairs(fields) do
  table.insert(l45.fields, field)
end

local function fault(name, text, severity)
  return ProtoExpert.new("l45.expert." .. name, text, expert.group.MALFORMED, severity or expert.severity.ERROR)
end

local experts = {
  type = fault("type", "No frame has this type"),
  head = fault("head", "The head does not fit the frame"),
  length = fault("length", "No frame of this type has this length"),
  inside = fault("inside", "The stream ends inside a frame"),
  signature = fault("signature", "No dissector for this signature is loaded", expert.severity.WARN),
  gap = fault("gap", "Bytes are not in the capture", expert.severity.WARN),
}
l45.experts = experts

local function add_customization(tree, item, range)
  if range then
    tree:add(fields.epoch, range:range(0, 2))
    tree:add(fields.signature, range:range(2, 4))
  elseif item.signature then
    tree:add(fields.epoch, item.epoch):set_generated()
    tree:add(fields.signature, item.signature):set_generated()
  end
end

local function named(item)
  return string.format("%s, epoch %d", item.signature, item.epoch)
end

local function call_module(dissectors, item, range, pinfo, tree, otherwise)
  local dissector = item.signature and dissectors:get_dissector(item.signature)
  if dissector then
    pcall(dissector.call, dissector, range:tvb(), pinfo, tree)
  else
    tree:add(otherwise, range)
  end
end

local show = {}

function show.mark(tree, item, range)
  local branch = tree:add(fields.mark, range)
  branch:append_text(string.format(": %s, %s", item.live and "live stream" or "new stream", named(item)))
  branch:add(fields.magic, range:range(0, 4))
  branch:add(fields.version, range:range(4, 1))
  branch:add(fields.kind, range:range(5, 1))
  branch:add(fields.token, range:range(6, 8))
  add_customization(branch, item, range:range(14, 6))
  return branch, "Start " .. item.signature
end

function show.frame(tree, item, range, pinfo)
  local branch = tree:add(fields.frame, range)
  local name = TYPES[item.type] or string.format("Unknown 0x%02x", item.type)
  branch:add(fields.type, range:range(0, 1))
  branch:add(fields.head, range:range(1, 1))
  branch:add(fields.length, range:range(2, 2))
  if item.type == SWITCH and not item.fault then
    add_customization(branch, item, range:range(4, 6))
    branch:append_text(": Switch to " .. named(item))
    return branch, "Switch to " .. item.signature
  end
  branch:append_text(string.format(": %s, %d bytes, %s", name, item.length, named(item)))
  add_customization(branch, item)
  if item.head > 0 and not item.fault then
    call_module(heads, item, range:range(HEADER_SIZE), pinfo, branch, fields.module_head)
  end
  return branch, item.type ~= DATA and item.type ~= UNTOUCHED and name or nil
end

function show.application(tree, _, range)
  tree:add(fields.application, range)
end

function show.opaque(tree, item, range, pinfo)
  call_module(wholes, item, range, pinfo, tree, fields.opaque)
end

function show.plain(tree, _, range)
  tree:add(fields.plain, range)
end

function show.lost(tree, _, range)
  tree:add(fields.lost, range)
end

local FOR_APPLICATION = { application = true, plain = true }
local IN_FRAME = { application = true, opaque = true }
local INTERRUPTS = { opaque = true, lost = true }

-- All that is needed to show one frame of the capture.
local function new_view(direction, record_here, payload, pinfo, root)
  local tree = payload and root:add(l45, payload) or root:add(l45)
  return {
    direction = direction, record = record_here, payload = payload, pinfo = pinfo, root = root, tree = tree,
    run = new_run(), calls = record_here.calls, made = {}, labels = {},
    ours = not record_here.turning, signature = record_here.before.signature,
  }
end

local function name_columns(view)
  local labels = view.labels
  if not view.payload then
    return -- TCP's own say it better
  end
  if #labels == 0 then
    labels = { view.signature or "plain again" }
  end
  view.pinfo.cols.protocol = "L4.5"
  view.pinfo.cols.info = "Customized stream: " .. table.concat(labels, ", ", 1, math.min(#labels, 8))
end

-- The application's bytes that follow one another so far; `ends`: the next ones do not follow them.
local function hand_over(view, ends)
  local run, position = view.run, #view.made + 1
  view.run = new_run()
  if position == 1 then
    name_columns(view) -- the next dissector writes over it
  end
  local call
  if not view.calls then
    call = offer(view.direction, run, ends, view.pinfo, view.root)
  else
    call = view.calls[position]
    if call then
      dissect_run(run, call, view.pinfo, view.root)
    end
  end
  view.made[position] = call
  if not call and run.size > 0 then
    name_columns(view) -- so does one that then asks for more
    view.tree:add(l45, run.size .. " bytes of the application are shown with a later frame"):set_generated()
  end
end

local function show_item(view, item, range)
  if item.kind == "mark" and not view.ours then
    view.ours, view.run = true, new_run()
    if view.record.prefix then
      extend(view.run, view.record.prefix)
    end
  end
  if INTERRUPTS[item.kind] then
    hand_over(view, true)
  elseif FOR_APPLICATION[item.kind] and view.ours then
    extend(view.run, range:raw())
  end
  local parent = IN_FRAME[item.kind] and view.frame or view.tree
  local branch, label = show[item.kind](parent, item, range, view.pinfo)
  view.frame = item.kind == "frame" and branch or nil
  view.signature = item.signature or view.signature
  table.insert(view.labels, label)
  local found = item.fault or item.warning
  if found then
    branch:add_proto_expert_info(experts[found])
  end
end

-- The bytes of a piece behind those pending, as one buffer.
local function source_of(view, stream, piece)
  if piece.own and stream.pending == "" then
    return view.payload:range(piece.own)
  end
  local bytes = piece.own and view.payload:raw(piece.own) or piece.bytes
  return ByteArray.new(stream.pending .. bytes, true):tvb("Layer 4.5 stream"):range()
end

local function show_pieces(view, stream)
  for _, piece in ipairs(view.record.pieces) do
    if piece.gap then
      hand_over(view, true)
      view.tree:add_proto_expert_info(experts.gap, string.format("%.0f bytes are not in the capture", piece.gap))
      skip(stream, piece.gap)
    else
      local range = source_of(view, stream, piece)
      for _, item in ipairs(parse(stream, range:raw())) do
        show_item(view, item, range:range(item.from - 1, item.size))
      end
    end
  end
end

local function show_end(view, stream)
  if stream.phase == "plain" and stream.pending ~= "" then
    extend(view.run, stream.pending)
  end
  if ends_inside(stream) then
    view.tree:add_proto_expert_info(experts.inside)
  end
end

local function show_record(direction, record_here, payload, pinfo, root)
  local view, stream = new_view(direction, record_here, payload, pinfo, root), copy(record_here.before)
  if record_here.waits then
    view.tree:append_text(": out of order, shown with a later frame")
  elseif #record_here.pieces == 0 and payload then
    view.tree:append_text(": nothing new, seen before")
  end
  show_pieces(view, stream)
  if record_here.ends then
    show_end(view, stream)
  end
  hand_over(view, record_here.ends)
  record_here.calls = view.made
end
