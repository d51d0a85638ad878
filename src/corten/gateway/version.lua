-- Names of an old API put right: query parameters, headers, members of JSON bodies. One script for all routes; what is
-- renamed on a route comes as its filter context (corten/gateway/versions.py). Runs in Envoy's Lua filter.

-- Members of a JSON text renamed by their paths: "a.b", "items[].price". A scanner, not a parser: everything else stays
-- as it is, byte for byte. nil when the text is no JSON.
local function renamed(text, names)
  local out, from, at, stack, top = {}, 1, 1, {}, nil
  while true do
    local s = string.find(text, '["{}%[%],]', at)
    if not s then break end
    local c = string.sub(text, s, s)
    at = s + 1
    if c == '"' then
      local e = s
      while true do
        e = string.find(text, '["\\]', e + 1)
        if not e then return nil end
        if string.byte(text, e) == 34 then break end
        e = e + 1
      end
      if top and top.object and top.key then
        top.key = false
        top.path = top.base .. string.sub(text, s + 1, e - 1)
        local new = names[top.path]
        if new then
          out[#out + 1] = string.sub(text, from, s)
          out[#out + 1] = new
          from = e
        end
      end
      at = e + 1
    elseif c == '{' or c == '[' then
      local base = ''
      if top then base = top.object and top.path or top.base end
      if c == '{' then
        if top then base = base .. '.' end
        top = { object = true, key = true, base = base, path = base }
      else
        top = { object = false, base = base .. '[]' }
      end
      stack[#stack + 1] = top
      if #stack > 200 then return nil end
    elseif c == ',' then
      if top and top.object then top.key = true end
    else
      stack[#stack] = nil
      top = stack[#stack]
    end
  end
  out[#out + 1] = string.sub(text, from)
  return table.concat(out)
end

local function some(names)
  return names ~= nil and next(names) ~= nil
end

local function is_json(headers)
  local kind = headers:get('content-type')
  return kind ~= nil and string.find(kind, 'json', 1, true) ~= nil
end

local function translate(handle, names)
  local headers = handle:headers()
  if not is_json(headers) then return end
  local body = handle:body()
  if body == nil then return end
  local text = renamed(body:getBytes(0, body:length()), names)
  if text == nil then return end
  body:setBytes(text)
  headers:replace('content-length', tostring(#text))
end

function envoy_on_request(handle)
  local context = handle:filterContext()
  local headers = handle:headers()
  local names = context:get('query')
  if some(names) then
    local path = headers:get(':path')
    local before, query = string.match(path, '^([^?]*)%?(.*)$')
    if query then
      query = string.gsub(query, '[^&]+', function(pair)
        local name, rest = string.match(pair, '^([^=]*)(.*)$')
        return (names[name] or name) .. rest
      end)
      headers:replace(':path', before .. '?' .. query)
    end
  end
  for old, new in pairs(context:get('headers') or {}) do
    local value = headers:get(old)
    if value then
      headers:remove(old)
      headers:replace(new, value)
    end
  end
  if some(context:get('response')) then headers:remove('accept-encoding') end
  if some(context:get('request')) then translate(handle, context:get('request')) end
end

function envoy_on_response(handle)
  local names = handle:filterContext():get('response')
  if some(names) then translate(handle, names) end
end
