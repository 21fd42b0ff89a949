# The messages of onnx.proto as C, as logs.cmake makes those of events.proto.
set(onnx_folder ${CMAKE_CURRENT_BINARY_DIR}/onnx_proto)
file(MAKE_DIRECTORY ${onnx_folder})
add_custom_command(
  OUTPUT ${onnx_folder}/onnx.pb-c.c ${onnx_folder}/onnx.pb-c.h
  COMMAND ${PROTOC_C} --proto_path=${CMAKE_CURRENT_SOURCE_DIR} --c_out=${onnx_folder} onnx.proto
  DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/onnx.proto
  VERBATIM)
add_library(rodeo_onnx_proto STATIC ${onnx_folder}/onnx.pb-c.c ${onnx_folder}/onnx.pb-c.h)
target_include_directories(rodeo_onnx_proto SYSTEM PUBLIC ${onnx_folder})
target_link_libraries(rodeo_onnx_proto PUBLIC lib_protobuf_c)

rodeo_program(export SOURCES export_main.c export_onnx.c LINKS rodeo_train rodeo_onnx_proto)
