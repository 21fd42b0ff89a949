rodeo_test(test_device SOURCES test_device.c LINKS rodeo_kernels)
rodeo_test(test_profile SOURCES test_profile.c LINKS rodeo_kernels)
rodeo_test(test_conv SOURCES test_conv.c tensors.c LINKS rodeo_kernels rodeo_ref)
rodeo_test(test_dense SOURCES test_dense.c tensors.c LINKS rodeo_kernels rodeo_ref)
rodeo_test(test_ops_golden SOURCES test_ops_golden.c tensors.c golden.c LINKS rodeo_kernels lib_jansson)
foreach(what batchnorm stem loss dropout augment)
  rodeo_test(test_${what} SOURCES test_${what}.c tensors.c golden.c
             LINKS rodeo_kernels rodeo_ref lib_jansson)
endforeach()
